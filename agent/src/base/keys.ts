/**
 * The keys of the mesh, each a class of its own so that none can stand in for another.
 *
 * A public key is a name: compare and index by `text`. A private key has no text form,
 * so no log line, JSON or error message can carry it; only `expose` and `PrivateKeyText`
 * (for the state file) lend its bytes.
 */
import { fromHex, isZero, toHex } from "./bytes.ts";
import { ParseError } from "./errors.ts";

export const KEY_LENGTH = 32;

const PRIVATE_PREFIX = "privkey:";
const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

abstract class PublicKey {
  readonly text: string;
  readonly #bytes: Uint8Array;

  protected constructor(prefix: string, bytes: Uint8Array) {
    if (bytes.length !== KEY_LENGTH) {
      throw new ParseError("key-length", `a key is ${KEY_LENGTH} bytes, not ${bytes.length}`);
    }
    this.#bytes = bytes.slice();
    this.text = prefix + toHex(this.#bytes);
  }

  /** A copy of the 32 raw bytes. */
  get bytes(): Uint8Array {
    return this.#bytes.slice();
  }

  /** Writes the raw key at `offset` and returns the offset after it. */
  writeTo(out: Uint8Array, offset: number): number {
    out.set(this.#bytes, offset);
    return offset + KEY_LENGTH;
  }

  /** The all-zero key stands for "none" in control messages. */
  get isZero(): boolean {
    return isZero(this.#bytes);
  }

  /** The form used in logs: "[AbCdE]", the first five characters of base64. */
  get short(): string {
    let bits = 0;
    for (let i = 0; i < 4; i++) bits = bits * 256 + (this.#bytes[i] ?? 0);
    let text = "";
    for (let i = 0; i < 5; i++) text += BASE64.charAt(Math.floor(bits / 2 ** (26 - 6 * i)) % 64);
    return `[${text}]`;
  }

  toString(): string {
    return this.text;
  }

  toJSON(): string {
    return this.text;
  }
}

/** A peer's WireGuard public key: its name on the wire, in the map and on a relay. */
export class NodePublic extends PublicKey {
  static readonly prefix = "nodekey:";
  readonly kind = "node";

  static fromBytes(bytes: Uint8Array): NodePublic {
    return new NodePublic(NodePublic.prefix, bytes);
  }

  /** @throws ParseError */
  static parse(text: string): NodePublic {
    return NodePublic.fromBytes(parseKey(text, NodePublic.prefix));
  }
}

/** Names an installation towards the coordination server: the static key of its Noise channel. */
export class MachinePublic extends PublicKey {
  static readonly prefix = "mkey:";
  readonly kind = "machine";

  static fromBytes(bytes: Uint8Array): MachinePublic {
    return new MachinePublic(MachinePublic.prefix, bytes);
  }

  /** @throws ParseError */
  static parse(text: string): MachinePublic {
    return MachinePublic.fromBytes(parseKey(text, MachinePublic.prefix));
  }
}

/** Names a running process in path discovery; new at each start. */
export class DiscoPublic extends PublicKey {
  static readonly prefix = "discokey:";
  readonly kind = "disco";

  static fromBytes(bytes: Uint8Array): DiscoPublic {
    return new DiscoPublic(DiscoPublic.prefix, bytes);
  }

  /** @throws ParseError */
  static parse(text: string): DiscoPublic {
    return DiscoPublic.fromBytes(parseKey(text, DiscoPublic.prefix));
  }

  /** The form used in logs: "d:" and 16 hex digits. */
  override get short(): string {
    return `d:${this.text.slice(DiscoPublic.prefix.length, DiscoPublic.prefix.length + 16)}`;
  }
}

abstract class PrivateKey {
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    if (bytes.length !== KEY_LENGTH) {
      throw new ParseError("key-length", `a private key is ${KEY_LENGTH} bytes, not ${bytes.length}`);
    }
    this.#bytes = bytes.slice();
  }

  /** Lends the secret to `use`. Do not keep the array. */
  expose<T>(use: (secret: Uint8Array) => T): T {
    return use(this.#bytes);
  }

  toString(): string {
    return "[private key]";
  }

  toJSON(): string {
    return "[private key]";
  }
}

export class NodePrivate extends PrivateKey {
  readonly kind = "node";
}

export class MachinePrivate extends PrivateKey {
  readonly kind = "machine";
}

export class DiscoPrivate extends PrivateKey {
  readonly kind = "disco";
}

/** Writes a private key as "privkey:<hex>". For the state file alone (mode 0600). */
export function formatPrivateKey(key: NodePrivate | MachinePrivate): string {
  return key.expose((secret) => PRIVATE_PREFIX + toHex(secret));
}

/** Reads "privkey:<hex>" into the raw 32 bytes. The error never repeats the text. @throws ParseError */
export function parsePrivateKey(text: string): Uint8Array {
  return parseKey(text, PRIVATE_PREFIX);
}

/** Clamps 32 random bytes into an X25519 private key (RFC 7748 section 5). */
export function clampPrivateKey(bytes: Uint8Array): Uint8Array {
  const out = bytes.slice();
  out[0] = (out[0] ?? 0) & 248;
  out[31] = ((out[31] ?? 0) & 127) | 64;
  return out;
}

function parseKey(text: string, prefix: string): Uint8Array {
  if (!text.startsWith(prefix)) throw new ParseError("key-prefix", `a key here begins with ${prefix}`);
  const hex = text.slice(prefix.length);
  if (hex.length !== 2 * KEY_LENGTH) {
    throw new ParseError(
      "key-length",
      `a key has ${2 * KEY_LENGTH} hex digits after ${prefix}, not ${hex.length}`,
    );
  }
  return fromHex(hex);
}
