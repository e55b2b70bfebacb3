/**
 * Sealing and opening in the shared memory, by the fastest way that this machine has.
 *
 * Each way is tried at the start against node:crypto, with packets of every kind of length, and the first that
 * gives the same bytes is taken.
 */
import { createCipheriv, createDecipheriv } from "node:crypto";
import { UsageError } from "../base/errors.ts";
import { type Absent, isAbsent } from "../io/ffi/koffi.ts";
import { type EvpChaCha, loadEvpChaCha, loadRawChaCha, type RawChaCha } from "../io/ffi/openssl.ts";
import { BLOCK, type Layout, openPrimitives, type Packets, type SharedMemory } from "./memory.ts";
import { type AeadName, aeadNames, isAeadName } from "./aead-names.ts";
import { knowsPoly1305State } from "./poly1305-state.ts";

/** All arguments are offsets into the memory. Plaintext in: 64 zero bytes before it. */
export interface Aead {
  readonly name: AeadName;
  /**
   * Makes a whole WireGuard message of the `length` bytes at `input`: its header 48 bytes into `slot`, its
   * ciphertext at 64, its tag behind. `lengthAt`: where its iovec has its length.
   */
  seal(
    slot: number,
    input: number,
    length: number,
    key: number,
    index: number,
    counter: number,
    lengthAt: number,
  ): void;
  /**
   * Opens the `length` bytes of ciphertext in `message` to 64 bytes into `slot`. What lies up to 48 bytes before
   * the message is lost. Returns false when it was damaged or forged; then what is in the slot means nothing.
   */
  open(slot: number, message: number, length: number, key: number, counter: number): boolean;
}

export interface AeadMemory {
  readonly memory: SharedMemory;
  readonly layout: Layout;
  readonly packets: Packets;
  /** Of offset 0. */
  readonly base: number;
}

const MESSAGE_HEADER = 16;
const TAG = 16;

/** What was chosen, and why nothing faster: a sentence for each faster way. */
export interface Choice {
  readonly aead: Aead;
  readonly whyNot: readonly string[];
}

const WAYS: Readonly<Record<AeadName, (at: AeadMemory) => Aead | Absent>> = {
  "openssl-raw": rawAead,
  "openssl-raw-calls": rawCallsAead,
  "openssl-evp": evpAead,
  wasm: wasmAead,
  "node-crypto": nodeAead,
};

/**
 * `wanted`: the name of one way, as SALLYPORT_AEAD has it, or nothing; the next one that works is taken where it does not.
 * @throws UsageError where there is no such way
 */
export function chooseAead(at: AeadMemory, wanted = ""): Choice {
  if (wanted !== "" && !isAeadName(wanted))
    throw new UsageError(
      "bad-settings",
      `there is no way to seal called ${wanted}: give ${aeadNames.join(", ")}`,
    );
  const first = wanted === "" ? 0 : aeadNames.indexOf(wanted);
  const whyNot = aeadNames.slice(0, first).map((name) => `${name}: SALLYPORT_AEAD is ${wanted}`);
  for (const name of aeadNames.slice(first)) {
    const aead = WAYS[name](at);
    if (isAbsent(aead)) whyNot.push(`${name}: ${aead.absent}`);
    else if (name === "node-crypto" || givesKnownAnswers(aead, at)) return { aead, whyNot };
    else whyNot.push(`${name}: it does not give the known answers`);
  }
  return { aead: nodeAead(at), whyNot };
}

/** ChaCha20 from block 0 on and Poly1305. All arguments but lengths are offsets into the memory. */
interface Primitives {
  readonly chacha20: (out: number, input: number, length: number, key: number, nonce: number) => void;
  /** Of a multiple of 16 bytes. */
  readonly poly1305: (key: number, at: number, length: number, tag: number) => void;
}

/** Two calls a packet: the beginning and the end of Poly1305 are ours. */
function rawAead(at: AeadMemory): Aead | Absent {
  const raw = loadRaw(at);
  if (isAbsent(raw)) return raw;
  const { base, layout, packets, memory } = at;
  if (!knowsPoly1305State(raw, at))
    return { absent: "the state of its Poly1305 is not the one that we know" };
  const { chacha20, poly1305Update } = raw;
  const words = new Int32Array(memory.buffer);
  const counterWord = layout.nonce / 4 + 2;
  const [state, nonce] = [base + layout.cipherState, base + layout.nonce];
  return {
    name: "openssl-raw",
    seal(slot, input, length, key, index, counter, lengthAt) {
      words[counterWord] = counter;
      chacha20(base + slot, base + input - BLOCK, BLOCK + length, base + key, nonce);
      packets.frameKeyed(slot, length, index, counter, lengthAt);
      poly1305Update(state, base + slot + BLOCK, ((length + 15) & ~15) + 16);
      packets.closeMac(slot + BLOCK + length);
    },
    open(slot, message, length, key, counter) {
      words[counterWord] = counter;
      const ciphertext = base + message + MESSAGE_HEADER;
      chacha20(base + slot, ciphertext - BLOCK, BLOCK + length, base + key, nonce);
      packets.enterKeyed(slot, message, length);
      poly1305Update(state, ciphertext, ((length + 15) & ~15) + 16);
      return packets.leaveKeyed(message, length) === 1;
    },
  };
}

/** Four calls a packet, for an OpenSSL of which we know the functions only. */
function rawCallsAead(at: AeadMemory): Aead | Absent {
  const raw = loadRaw(at);
  if (isAbsent(raw)) return raw;
  const { base, layout } = at;
  const { chacha20, poly1305Init, poly1305Update, poly1305Final } = raw;
  const state = base + layout.cipherState;
  return compose("openssl-raw-calls", at, {
    chacha20: (out, input, length, key, nonce) =>
      chacha20(base + out, base + input, length, base + key, base + nonce),
    poly1305(key, from, length, tag) {
      poly1305Init(state, base + key);
      poly1305Update(state, base + from, length);
      poly1305Final(state, base + tag);
    },
  });
}

function loadRaw({ layout }: AeadMemory): RawChaCha | Absent {
  const raw = loadRawChaCha();
  if (isAbsent(raw)) return raw;
  return raw.stateLength > layout.tag - layout.cipherState
    ? { absent: "its state is larger than was planned" }
    : raw;
}

function wasmAead(at: AeadMemory): Aead {
  return compose("wasm", at, openPrimitives(at.memory, at.layout));
}

/**
 * The AEAD of RFC 8439 without associated data: the first block of the key stream is Poly1305's key, which
 * covers the ciphertext, zeroes up to a multiple of 16, and the lengths.
 */
function compose(name: AeadName, { packets, memory, layout }: AeadMemory, primitives: Primitives): Aead {
  const { chacha20, poly1305 } = primitives;
  const words = new Int32Array(memory.buffer);
  const { nonce, tag } = layout;
  const counterWord = nonce / 4 + 2;
  return {
    name,
    seal(slot, input, length, key, index, counter, lengthAt) {
      words[counterWord] = counter;
      chacha20(slot, input - BLOCK, BLOCK + length, key, nonce);
      packets.frame(slot, length, index, counter, 0, lengthAt);
      poly1305(slot, slot + BLOCK, ((length + 15) & ~15) + 16, slot + BLOCK + length);
    },
    open(slot, message, length, key, counter) {
      words[counterWord] = counter;
      packets.enter(message, length);
      chacha20(slot, message + MESSAGE_HEADER - BLOCK, BLOCK + length, key, nonce);
      poly1305(slot, message + MESSAGE_HEADER, ((length + 15) & ~15) + 16, tag);
      return packets.leave(message, length, tag) === 1;
    },
  };
}

function evpAead({ layout, packets, memory, base }: AeadMemory): Aead | Absent {
  const evp = loadEvpChaCha();
  return isAbsent(evp) ? evp : makeEvp(evp, packets, new Int32Array(memory.buffer), layout, base);
}

function makeEvp(evp: EvpChaCha, packets: Packets, words: Int32Array, layout: Layout, base: number): Aead {
  const nonceWord = layout.nonce / 4;
  const nonce = base + layout.nonce + 4;
  const scratch = base + layout.tag;
  return {
    name: "openssl-evp",
    seal(slot, input, length, key, index, counter, lengthAt) {
      words[nonceWord + 2] = counter;
      packets.frame(slot, length, index, counter, 0, lengthAt);
      evp.init(base + key, nonce, 1);
      if (length > 0) evp.cipher(base + slot + BLOCK, base + input, length);
      evp.final(scratch);
      evp.getTag(base + slot + BLOCK + length);
    },
    open(slot, message, length, key, counter) {
      words[nonceWord + 2] = counter;
      const ciphertext = base + message + MESSAGE_HEADER;
      evp.init(base + key, nonce, 0);
      evp.setTag(ciphertext + length);
      if (length > 0) evp.cipher(base + slot + BLOCK, ciphertext, length);
      return evp.final(scratch) === 1;
    },
  };
}

function nodeAead({ packets, memory }: AeadMemory): Aead {
  const bytes = new Uint8Array(memory.buffer);
  const nonce = new Uint8Array(12);
  const view = new DataView(nonce.buffer);
  const options = { authTagLength: TAG };
  return {
    name: "node-crypto",
    seal(slot, input, length, key, index, counter, lengthAt) {
      packets.frame(slot, length, index, counter, 0, lengthAt);
      view.setUint32(4, counter, true);
      const cipher = createCipheriv("chacha20-poly1305", bytes.slice(key, key + 32), nonce, options);
      bytes.set(cipher.update(bytes.slice(input, input + length)), slot + BLOCK);
      cipher.final();
      bytes.set(cipher.getAuthTag(), slot + BLOCK + length);
    },
    open(slot, message, length, key, counter) {
      view.setUint32(4, counter, true);
      const at = message + MESSAGE_HEADER;
      const decipher = createDecipheriv("chacha20-poly1305", bytes.slice(key, key + 32), nonce, options);
      decipher.setAuthTag(bytes.slice(at + length, at + length + TAG));
      try {
        bytes.set(decipher.update(bytes.slice(at, at + length)), slot + BLOCK);
        decipher.final();
        return true;
      } catch {
        return false;
      }
    },
  };
}

/** As far as the packets of this tunnel may have them. */
const TRIED_LENGTHS = [0, 1, 15, 16, 17, 63, 64, 65, 96, 576, 1279, 1280, 1420, 9000];

/** Seals and opens with both, in the very areas that will be used; a damaged message must be refused. */
function givesKnownAnswers(aead: Aead, at: AeadMemory): boolean {
  const { layout, memory } = at;
  const bytes = new Uint8Array(memory.buffer);
  const reference = nodeAead(at);
  const key = layout.read;
  const input = layout.read + 1024;
  const [ours, theirs, opened] = [layout.sealed, layout.sealed + layout.slot, layout.opened];
  return TRIED_LENGTHS.filter((length) => length <= layout.largest).every((length) => {
    for (let i = 0; i < 32; i++) bytes[key + i] = (i * 7 + length) & 0xff;
    const counter = 0xfedc_ba98 + length;
    const seal = (by: Aead, slot: number): Uint8Array => {
      bytes.fill(0, input - BLOCK, input);
      for (let i = 0; i < length; i++) bytes[input + i] = (i * 31 + 5) & 0xff;
      by.seal(slot, input, length, key, 0x01020304, counter | 0, layout.sealedIovecs);
      return bytes.slice(slot + 48, slot + 48 + MESSAGE_HEADER + length + TAG);
    };
    const sealed = seal(aead, ours);
    const expected = seal(reference, theirs);
    if (!sealed.every((byte, i) => byte === expected[i])) return false;
    const message = layout.received + 256;
    bytes.set(sealed, message);
    if (!aead.open(opened, message, length, key, counter | 0)) return false;
    for (let i = 0; i < length; i++) if (bytes[opened + BLOCK + i] !== ((i * 31 + 5) & 0xff)) return false;
    bytes.set(sealed, message);
    bytes[message + MESSAGE_HEADER + length] = (sealed[MESSAGE_HEADER + length] ?? 0) ^ 1;
    return !aead.open(opened, message, length, key, counter | 0);
  });
}
