/** The shape of wireguard.json. */
import { vectors } from "../../../vectors/load.ts";

interface KeyPairHex {
  readonly private: string;
  readonly public: string;
}

export interface StepVector {
  readonly step: string;
  readonly ck: string;
  readonly h: string;
  readonly e?: string;
  readonly k?: string;
  readonly dh?: string;
  readonly tau?: string;
  readonly static?: string;
  readonly timestamp?: string;
  readonly empty?: string;
}

export interface HandshakeVector {
  readonly name: string;
  readonly psk: string;
  readonly initiator_index: number;
  readonly responder_index: number;
  readonly initiation: string;
  readonly initiation_steps: readonly StepVector[];
  readonly response: string;
  readonly response_steps: readonly StepVector[];
  readonly key_initiator_to_responder: string;
  readonly key_responder_to_initiator: string;
  readonly transport: readonly {
    readonly name: string;
    readonly counter: number;
    readonly key: string;
    readonly packet: string;
    readonly padded?: string;
    readonly plaintext: string;
    readonly receiver: number;
  }[];
}

export interface CookieVector {
  readonly name: string;
  readonly cookie: string;
  readonly cookie_key_responder: string;
  readonly cookie_secret: string;
  readonly initiation_with_mac2: string;
  readonly mac1_key_responder: string;
  readonly nonce: string;
  readonly reply: string;
  readonly source_bytes: string;
}

interface WireGuardVectors {
  readonly static_initiator: KeyPairHex;
  readonly static_responder: KeyPairHex;
  readonly ephemeral_initiator: KeyPairHex;
  readonly ephemeral_responder: KeyPairHex;
  readonly handshakes: readonly (HandshakeVector | CookieVector)[];
  readonly replay: {
    readonly limit: string;
    readonly sequence: readonly { readonly counter: string; readonly accept: boolean }[];
  };
  readonly tai64n: readonly { readonly unix: number; readonly nanos: number; readonly tai64n: string }[];
  readonly timestamp: { readonly unix: number; readonly nanos_whitened: number; readonly tai64n: string };
}

export const published: WireGuardVectors = vectors<WireGuardVectors>("wireguard.json");

export const handshakeVectors: readonly HandshakeVector[] = published.handshakes.filter(
  (v) => "initiation_steps" in v,
);
export const cookieVectors: readonly CookieVector[] = published.handshakes.filter((v) => "cookie" in v);
