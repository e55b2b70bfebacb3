/**
 * Peers that nothing but WireGuard says the address of (plain ones) are answered where they were last heard. A worker
 * compares where an opened message came from with where it is to send, and tells the engine of another place once.
 *
 *     heard    struct sockaddr (28): told to the engine  changes of the peer's line meanwhile + 1 (4)
 */
import { ADDRESS_SIZE, type Layout, PEER_SIZE } from "./memory.ts";
import { Kind } from "./messages.ts";
import { PeerWord } from "./peer-table.ts";
import type { RingWriter } from "./ring.ts";

const AF_INET = 2;
const WORDS = ADDRESS_SIZE / 4;
const CHANGES = 7;

export class Roaming {
  readonly #words: Int32Array;
  readonly #reports: RingWriter;
  readonly #peers: number;
  readonly #heard: number;

  constructor(memory: ArrayBufferLike, { peers, heard }: Layout, reports: RingWriter) {
    this.#words = new Int32Array(memory);
    this.#reports = reports;
    this.#peers = peers / 4;
    this.#heard = heard / 4;
  }

  /** A message of `peer` proved its key; it came from the address at `sender`. */
  noteSender(peer: number, sender: number): void {
    const words = this.#words;
    const line = this.#peers + (peer * PEER_SIZE) / 4;
    if (words[line + PeerWord.roams] === 0) return;
    const heard = this.#heard + peer * WORDS;
    for (;;) {
      const changes = Atomics.load(words, line + PeerWord.changes);
      if ((changes & 1) !== 0) continue;
      // What was told counts until the engine has said something new.
      const known = words[heard + CHANGES] === changes + 1 ? heard : line + PeerWord.address;
      const isKnown = isSameAddress(words, known, sender / 4);
      if (Atomics.load(words, line + PeerWord.changes) !== changes) continue;
      if (isKnown || !this.#reports.push(Kind.roamed, peer, 0, sender, ADDRESS_SIZE)) return;
      words.copyWithin(heard, sender / 4, sender / 4 + CHANGES);
      words[heard + CHANGES] = changes + 1;
      return;
    }
  }
}

/** The sender of a message that came by a relay. */
export const BY_RELAY = 255;

/** Who sent the messages that were opened and wait to be delivered, each sender once for all that follow each other. */
export class Senders {
  /** The entry of who sent the last datagram. None is behind the first message that refers to it. */
  last = 0;
  readonly #words: Int32Array;
  readonly #at: number;

  constructor(memory: ArrayBufferLike, { senders }: Layout) {
    this.#words = new Int32Array(memory);
    this.#at = senders / 4;
  }

  /** A datagram came from the address at `name`; `place`: how many messages wait. */
  note(name: number, place: number): void {
    if (isSameAddress(this.#words, name / 4, this.#at + this.last * WORDS)) return;
    this.last = place;
    this.#copy(name / 4, place);
  }

  /** No message waits any more. */
  keepLast(): void {
    if (this.last === 0) return;
    this.#copy(this.#at + this.last * WORDS, 0);
    this.last = 0;
  }

  #copy(from: number, entry: number): void {
    this.#words.copyWithin(this.#at + entry * WORDS, from, from + WORDS);
  }
}

/** Of two addresses of the kernel's at these words: flow labels and scopes do not count. */
function isSameAddress(words: Int32Array, one: number, other: number): boolean {
  const family = (words[one] ?? 0) & 0xffff;
  if (words[one] !== words[other]) return false;
  if (family === AF_INET) return words[one + 1] === words[other + 1];
  for (let i = 2; i < 6; i++) if (words[one + i] !== words[other + i]) return false;
  return true;
}
