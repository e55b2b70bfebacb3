/**
 * The handshake: Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s as WireGuard binds it (the paper, section 5.4).
 *
 * Two messages: `initiate` → `readInitiation`, `readTimestamp`, `respond` → `readResponse`. Nothing
 * here remembers anything: each step returns a new state, so bytes that fail leave no trace. Who
 * the peer is, whether the timestamp is fresh and what the indices are is decided by the callers.
 */
import { utf8 } from "../../base/bytes.ts";
import { clampPrivateKey, KEY_LENGTH, type NodePrivate } from "../../base/keys.ts";
import { randomBytes, type Random } from "../../base/random.ts";
import { blake2s, kdf1, kdf2, kdf3 } from "../../crypto/hash.ts";
import { type Suite, ZERO_NONCE } from "../../crypto/suite.ts";
import { encodeInitiation, encodeResponse, type Initiation, type Response } from "./messages.ts";

const CONSTRUCTION = utf8("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s");
const IDENTIFIER = utf8("WireGuard v1 zx2c4 Jason@zx2c4.com");
const NOTHING = new Uint8Array(0);

/** Who we are in every handshake. */
export interface Identity {
  readonly suite: Suite;
  readonly privateKey: NodePrivate;
  readonly publicKey: Uint8Array;
}

/** The two keys that a finished handshake leaves. */
export interface TransportKeys {
  readonly send: Uint8Array;
  readonly receive: Uint8Array;
}

/** What the initiator keeps until the response comes. */
export interface PendingInitiation {
  readonly ephemeral: Uint8Array;
  readonly state: SymmetricState;
}

/** What the responder knows while it reads an initiation. */
export interface ReadInitiation {
  readonly initiatorStatic: Uint8Array;
  readonly initiatorEphemeral: Uint8Array;
  readonly state: SymmetricState;
}

export interface InitiateOptions {
  readonly sender: number;
  readonly peerStatic: Uint8Array;
  /** DH of both static keys: the same in every handshake of two peers, so computed once. */
  readonly staticShared: Uint8Array;
  readonly timestamp: Uint8Array;
}

/** Builds message 1. `undefined` when the peer's key is no usable key. */
export function initiate(
  identity: Identity,
  options: InitiateOptions,
  random: Random,
): { readonly message: Uint8Array; readonly pending: PendingInitiation } | undefined {
  const { suite } = identity;
  const secret = clampPrivateKey(randomBytes(random, KEY_LENGTH));
  const ephemeral = suite.x25519Public(secret);
  const es = suite.x25519(secret, options.peerStatic);
  if (es === undefined) return undefined;
  const opened = SymmetricState.initial(suite, options.peerStatic).mixEphemeral(ephemeral).mixKey(es);
  const [sealedStatic, afterStatic] = opened.seal(identity.publicKey);
  const [sealedTimestamp, state] = afterStatic.mixKey(options.staticShared).seal(options.timestamp);
  return {
    message: encodeInitiation({ sender: options.sender, ephemeral, sealedStatic, sealedTimestamp }),
    pending: { ephemeral: secret, state },
  };
}

/** Reads message 1 as far as the initiator's static key, which names the peer but proves nothing yet. */
export function readInitiation(identity: Identity, message: Initiation): ReadInitiation | undefined {
  const es = identity.privateKey.expose((secret) => identity.suite.x25519(secret, message.ephemeral));
  if (es === undefined) return undefined;
  const opened = SymmetricState.initial(identity.suite, identity.publicKey)
    .mixEphemeral(message.ephemeral)
    .mixKey(es)
    .open(message.sealedStatic);
  if (opened === undefined) return undefined;
  return { initiatorStatic: opened[0], initiatorEphemeral: message.ephemeral, state: opened[1] };
}

/** Reads the rest of message 1: its timestamp, which proves that the named peer sent it (once). */
export function readTimestamp(
  read: ReadInitiation,
  message: Initiation,
  staticShared: Uint8Array,
): { readonly timestamp: Uint8Array; readonly read: ReadInitiation } | undefined {
  const opened = read.state.mixKey(staticShared).open(message.sealedTimestamp);
  if (opened === undefined) return undefined;
  return { timestamp: opened[0], read: { ...read, state: opened[1] } };
}

export interface RespondOptions {
  readonly sender: number;
  readonly receiver: number;
  readonly presharedKey: Uint8Array;
}

/** Builds message 2 and the responder's keys. */
export function respond(
  suite: Suite,
  read: ReadInitiation,
  options: RespondOptions,
  random: Random,
): { readonly message: Uint8Array; readonly keys: TransportKeys } | undefined {
  const secret = clampPrivateKey(randomBytes(random, KEY_LENGTH));
  const ephemeral = suite.x25519Public(secret);
  const ee = suite.x25519(secret, read.initiatorEphemeral);
  const se = suite.x25519(secret, read.initiatorStatic);
  secret.fill(0);
  if (ee === undefined || se === undefined) return undefined;
  const [sealedNothing, state] = read.state
    .mixEphemeral(ephemeral)
    .mixSecret(ee)
    .mixSecret(se)
    .mixPresharedKey(options.presharedKey)
    .seal(NOTHING);
  const [receive, send] = state.split();
  const { sender, receiver } = options;
  return { message: encodeResponse({ sender, receiver, ephemeral, sealedNothing }), keys: { send, receive } };
}

/** Reads message 2 into the initiator's keys. `undefined` when it does not answer `pending`. */
export function readResponse(
  identity: Identity,
  pending: PendingInitiation,
  message: Response,
  presharedKey: Uint8Array,
): TransportKeys | undefined {
  const { suite } = identity;
  const ee = suite.x25519(pending.ephemeral, message.ephemeral);
  const se = identity.privateKey.expose((secret) => suite.x25519(secret, message.ephemeral));
  if (ee === undefined || se === undefined) return undefined;
  const opened = pending.state
    .mixEphemeral(message.ephemeral)
    .mixSecret(ee)
    .mixSecret(se)
    .mixPresharedKey(presharedKey)
    .open(message.sealedNothing);
  if (opened === undefined) return undefined;
  const [send, receive] = opened[1].split();
  return { send, receive };
}

/** The running chaining key and hash of a handshake. Never changes: each step returns the next state. */
export class SymmetricState {
  readonly chainingKey: Uint8Array;
  readonly hash: Uint8Array;
  protected readonly suite: Suite;

  constructor(suite: Suite, chainingKey: Uint8Array, hash: Uint8Array) {
    this.suite = suite;
    this.chainingKey = chainingKey;
    this.hash = hash;
  }

  /** The state before any handshake, and the hash bound to the responder's static key. */
  static initial(suite: Suite, responderStatic: Uint8Array): SymmetricState {
    return SymmetricState.start(suite).mixHash(responderStatic);
  }

  /** The state that all handshakes begin from. */
  static start(suite: Suite): SymmetricState {
    return new SymmetricState(suite, START_CHAINING_KEY, START_HASH);
  }

  mixHash(data: Uint8Array): SymmetricState {
    return new SymmetricState(this.suite, this.chainingKey, blake2s(this.hash, data));
  }

  /** Unlike plain Noise IK, WireGuard mixes the ephemeral into the chaining key too. */
  mixEphemeral(ephemeral: Uint8Array): SymmetricState {
    return new SymmetricState(
      this.suite,
      kdf1(this.suite.hmacBlake2s, this.chainingKey, ephemeral),
      blake2s(this.hash, ephemeral),
    );
  }

  mixSecret(secret: Uint8Array): SymmetricState {
    return new SymmetricState(this.suite, kdf1(this.suite.hmacBlake2s, this.chainingKey, secret), this.hash);
  }

  mixKey(secret: Uint8Array): KeyedState {
    const [chainingKey, key] = kdf2(this.suite.hmacBlake2s, this.chainingKey, secret);
    return new KeyedState(this.suite, chainingKey, this.hash, key);
  }

  mixPresharedKey(presharedKey: Uint8Array): KeyedState {
    const [chainingKey, tau, key] = kdf3(this.suite.hmacBlake2s, this.chainingKey, presharedKey);
    return new KeyedState(this.suite, chainingKey, blake2s(this.hash, tau), key);
  }

  /** The transport keys: initiator to responder, then back. */
  split(): readonly [Uint8Array, Uint8Array] {
    return kdf2(this.suite.hmacBlake2s, this.chainingKey, NOTHING);
  }
}

/** A state with the key of its next sealed field. */
export class KeyedState extends SymmetricState {
  readonly key: Uint8Array;

  constructor(suite: Suite, chainingKey: Uint8Array, hash: Uint8Array, key: Uint8Array) {
    super(suite, chainingKey, hash);
    this.key = key;
  }

  seal(plaintext: Uint8Array): readonly [Uint8Array, SymmetricState] {
    const sealed = this.suite.aeadSeal(this.key, ZERO_NONCE, plaintext, this.hash);
    return [sealed, this.mixHash(sealed)];
  }

  open(sealed: Uint8Array): readonly [Uint8Array, SymmetricState] | undefined {
    const plaintext = this.suite.aeadOpen(this.key, ZERO_NONCE, sealed, this.hash);
    return plaintext === undefined ? undefined : [plaintext, this.mixHash(sealed)];
  }
}

const START_CHAINING_KEY = blake2s(CONSTRUCTION);
const START_HASH = blake2s(START_CHAINING_KEY, IDENTIFIER);
