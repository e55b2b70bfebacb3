/** Seals and opens disco messages: one own key pair per process, one shared key per peer. */
import { DiscoPublic, type DiscoPrivate } from "../base/keys.ts";
import { randomBytes, type Random } from "../base/random.ts";
import { decodeDisco, type DiscoMessage, encodeDisco } from "../core/disco/message.ts";
import { discoSender, openDisco, sealDisco } from "../core/disco/seal.ts";
import { BOX_NONCE_LENGTH, BoxKey } from "../crypto/box.ts";
import type { Suite } from "../crypto/suite.ts";

export interface ReceivedDisco {
  readonly sender: DiscoPublic;
  readonly message: DiscoMessage;
}

export class DiscoExchange {
  readonly publicKey: DiscoPublic;
  readonly #suite: Suite;
  readonly #random: Random;
  readonly #privateKey: DiscoPrivate;
  readonly #shared = new Map<string, BoxKey>();

  constructor(suite: Suite, random: Random, privateKey: DiscoPrivate) {
    this.#suite = suite;
    this.#random = random;
    this.#privateKey = privateKey;
    this.publicKey = DiscoPublic.fromBytes(privateKey.expose((secret) => suite.x25519Public(secret)));
  }

  /** `undefined` when the peer's key is not a usable point. */
  seal(to: DiscoPublic, message: DiscoMessage): Uint8Array | undefined {
    const box = this.#boxFor(to);
    if (box === undefined) return undefined;
    const nonce = randomBytes(this.#random, BOX_NONCE_LENGTH);
    return sealDisco(box, this.publicKey, nonce, encodeDisco(message));
  }

  /** Opens a packet of a sender that `isKnown`. `undefined` for anything else: such packets are ignored silently. */
  open(packet: Uint8Array, isKnown: (sender: DiscoPublic) => boolean): ReceivedDisco | undefined {
    const sender = discoSender(packet);
    if (sender === undefined || !isKnown(sender)) return undefined;
    const box = this.#boxFor(sender);
    const opened = box === undefined ? undefined : openDisco(box, packet);
    if (opened === undefined || typeof opened === "string") return undefined;
    const message = decodeDisco(opened);
    return typeof message === "string" ? undefined : { sender, message };
  }

  /** Forgets the key shared with a peer that is gone or has a new key. */
  forget(peer: DiscoPublic): void {
    this.#shared.delete(peer.text);
  }

  #boxFor(peer: DiscoPublic): BoxKey | undefined {
    let box = this.#shared.get(peer.text);
    if (box === undefined) {
      box = this.#privateKey.expose((secret) => BoxKey.agree(this.#suite, secret, peer.bytes));
      if (box !== undefined) this.#shared.set(peer.text, box);
    }
    return box;
  }
}
