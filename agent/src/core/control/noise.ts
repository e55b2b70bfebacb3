/**
 * The handshake of the coordination protocol: Noise_IK_25519_ChaChaPoly_BLAKE2s with a prologue that names the version.
 *
 * It proves the server's key to the client and the machine's key to the server; `record.ts` carries what follows.
 *
 *     initiation, 101 bytes (travels in an HTTP header)
 *      0         2      3        5             37                       85        101
 *     +---------+------+--------+-------------+------------------------+---------+
 *     | version | 0x01 | 96     | e           | sealed machine key     | tag     |
 *     +---------+------+--------+-------------+------------------------+---------+
 *     response, 51 bytes                        failure
 *      0      1        3             35       51  0      1        3
 *     +------+--------+-------------+---------+  +------+--------+----------------+
 *     | 0x02 | 48     | e           | tag     |  | 0x03 | length | UTF-8 text     |
 *     +------+--------+-------------+---------+  +------+--------+----------------+
 *
 * Integers are big-endian. Unlike in WireGuard `e` is only hashed, and each key seals once with the zero nonce.
 */
import { concat, fromUtf8, utf8, viewOf } from "../../base/bytes.ts";
import { clampPrivateKey, type MachinePrivate, MachinePublic } from "../../base/keys.ts";
import { type Random, randomBytes } from "../../base/random.ts";
import { blake2s, kdf2 } from "../../crypto/hash.ts";
import { type Suite, TAG_LENGTH, ZERO_NONCE } from "../../crypto/suite.ts";

const INITIATION_LENGTH = 101;
const RESPONSE_LENGTH = 51;

/** The type byte of every frame but the initiation, which has two bytes of version before it. */
export const FrameType = { initiation: 1, response: 2, error: 3, record: 4 } as const;

const PROTOCOL_NAME = "Noise_IK_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE = "Tailscale Control Protocol v";
const NOTHING = new Uint8Array(0);

/** What a finished handshake leaves: a key for each direction. */
export interface SessionKeys {
  readonly send: Uint8Array;
  readonly receive: Uint8Array;
  /** Equal on both sides, and for this session alone. */
  readonly handshakeHash: Uint8Array;
}

/** `server-error` is unauthenticated text of whoever answered. */
export type HandshakeFailure =
  | { readonly kind: "malformed" }
  | { readonly kind: "not-authentic" }
  | { readonly kind: "server-error"; readonly text: string };

export interface Accepted {
  readonly kind: "accepted";
  readonly response: Uint8Array;
  readonly keys: SessionKeys;
  readonly machine: MachinePublic;
  /** The capability version that the client says it has. */
  readonly version: number;
}

/** The client's side: send `message`, then give the answer to `finish`. */
export class Initiator {
  readonly message: Uint8Array;
  readonly #suite: Suite;
  readonly #state: NoiseState;
  readonly #ephemeral: Uint8Array;
  readonly #machineKey: MachinePrivate;

  constructor(
    suite: Suite,
    random: Random,
    machineKey: MachinePrivate,
    serverKey: MachinePublic,
    version: number,
  ) {
    this.#suite = suite;
    this.#machineKey = machineKey;
    this.#state = new NoiseState(suite, version, serverKey.bytes);
    this.#ephemeral = clampPrivateKey(randomBytes(random, 32));
    const ephemeralPublic = suite.x25519Public(this.#ephemeral);
    this.#state.mixHash(ephemeralPublic);
    const es = this.#state.mixDh(suite.x25519(this.#ephemeral, serverKey.bytes));
    const machinePublic = machineKey.expose((secret) => suite.x25519Public(secret));
    const sealedMachine = this.#state.seal(es, machinePublic);
    const ss = this.#state.mixDh(machineKey.expose((secret) => suite.x25519(secret, serverKey.bytes)));
    const header = Uint8Array.of(version >> 8, version & 0xff, FrameType.initiation, 0, 96);
    this.message = concat(header, ephemeralPublic, sealedMachine, this.#state.seal(ss, NOTHING));
  }

  /** Reads the server's answer: a response, or an error frame of any length. */
  finish(frame: Uint8Array): SessionKeys | HandshakeFailure {
    if (frame[0] === FrameType.error && frame.length >= 3) {
      return { kind: "server-error", text: fromUtf8(frame.subarray(3)) };
    }
    if (frame.length !== RESPONSE_LENGTH || frame[0] !== FrameType.response) return { kind: "malformed" };
    if (viewOf(frame).getUint16(1) !== RESPONSE_LENGTH - 3) return { kind: "malformed" };
    const state = this.#state.copy();
    const peer = frame.subarray(3, 35);
    state.mixHash(peer);
    state.mixDh(this.#suite.x25519(this.#ephemeral, peer));
    const se = state.mixDh(this.#machineKey.expose((secret) => this.#suite.x25519(secret, peer)));
    if (state.open(se, frame.subarray(35)) === undefined) return { kind: "not-authentic" };
    const [toServer, toClient] = state.split();
    return { send: toServer, receive: toClient, handshakeHash: state.h };
  }
}

/** The server's side: the whole handshake at once. */
export function respond(
  suite: Suite,
  random: Random,
  serverKey: MachinePrivate,
  initiation: Uint8Array,
): Accepted | HandshakeFailure {
  if (initiation.length !== INITIATION_LENGTH || initiation[2] !== FrameType.initiation) {
    return { kind: "malformed" };
  }
  const view = viewOf(initiation);
  if (view.getUint16(3) !== INITIATION_LENGTH - 5) return { kind: "malformed" };
  const version = view.getUint16(0);
  const serverPublic = serverKey.expose((secret) => suite.x25519Public(secret));
  const dh = (peer: Uint8Array): Uint8Array | undefined =>
    serverKey.expose((secret) => suite.x25519(secret, peer));

  const state = new NoiseState(suite, version, serverPublic);
  const clientEphemeral = initiation.subarray(5, 37);
  state.mixHash(clientEphemeral);
  const machine = state.open(state.mixDh(dh(clientEphemeral)), initiation.subarray(37, 85));
  if (machine === undefined) return { kind: "not-authentic" };
  const ss = state.mixDh(dh(machine));
  if (state.open(ss, initiation.subarray(85)) === undefined) return { kind: "not-authentic" };

  const ephemeral = clampPrivateKey(randomBytes(random, 32));
  const ephemeralPublic = suite.x25519Public(ephemeral);
  state.mixHash(ephemeralPublic);
  state.mixDh(suite.x25519(ephemeral, clientEphemeral));
  const tag = state.seal(state.mixDh(suite.x25519(ephemeral, machine)), NOTHING);
  if (tag.length !== TAG_LENGTH) return { kind: "not-authentic" };
  const [toServer, toClient] = state.split();
  return {
    kind: "accepted",
    response: concat(Uint8Array.of(FrameType.response, 0, RESPONSE_LENGTH - 3), ephemeralPublic, tag),
    keys: { send: toClient, receive: toServer, handshakeHash: state.h },
    machine: MachinePublic.fromBytes(machine),
    version,
  };
}

/** An error frame: what a server may answer instead of a response. */
export function encodeHandshakeError(text: string): Uint8Array {
  const body = utf8(text).subarray(0, 0xffff);
  return concat(Uint8Array.of(FrameType.error, body.length >> 8, body.length & 0xff), body);
}

/**
 * Noise's symmetric state. A DH that fails (a peer's key of small order) poisons it: from then on `open` refuses
 * everything and `seal` yields nothing, so no key is ever derived from a value the peer chose.
 */
export class NoiseState {
  readonly #suite: Suite;
  #h: Uint8Array;
  #ck: Uint8Array;
  #poisoned = false;

  constructor(suite: Suite, version: number, serverPublic: Uint8Array) {
    this.#suite = suite;
    this.#h = blake2s(utf8(PROTOCOL_NAME)); // 33 characters, more than a hash: hashed, not padded
    this.#ck = this.#h;
    this.mixHash(utf8(PROLOGUE + String(version)));
    this.mixHash(serverPublic);
  }

  get h(): Uint8Array {
    return this.#h;
  }

  get ck(): Uint8Array {
    return this.#ck;
  }

  copy(): NoiseState {
    const copy = new NoiseState(this.#suite, 0, NOTHING);
    copy.#h = this.#h;
    copy.#ck = this.#ck;
    copy.#poisoned = this.#poisoned;
    return copy;
  }

  mixHash(data: Uint8Array): void {
    this.#h = blake2s(this.#h, data);
  }

  /** Mixes a shared secret in and returns the key for the one seal or open that follows. */
  mixDh(shared: Uint8Array | undefined): Uint8Array {
    if (shared === undefined) {
      this.#poisoned = true;
      return this.#ck;
    }
    const [ck, key] = kdf2(this.#suite.hmacBlake2s, this.#ck, shared);
    this.#ck = ck;
    return key;
  }

  seal(key: Uint8Array, plaintext: Uint8Array): Uint8Array {
    if (this.#poisoned) return NOTHING;
    const sealed = this.#suite.aeadSeal(key, ZERO_NONCE, plaintext, this.#h);
    this.mixHash(sealed);
    return sealed;
  }

  open(key: Uint8Array, sealed: Uint8Array): Uint8Array | undefined {
    if (this.#poisoned) return undefined;
    const plaintext = this.#suite.aeadOpen(key, ZERO_NONCE, sealed, this.#h);
    if (plaintext !== undefined) this.mixHash(sealed);
    return plaintext;
  }

  /** The keys client → server and server → client. */
  split(): readonly [Uint8Array, Uint8Array] {
    return kdf2(this.#suite.hmacBlake2s, this.#ck, NOTHING);
  }
}
