/** What the engine tells the worker, and the records that the worker hands to the engine. */
import type { FilterRuleJson } from "../core/filter/filter.ts";

/** Peers have small numbers here, which the engine gives out and uses again. Applied one after the other, each at once as a whole. */
export type PlaneMessage =
  /** The prefixes by which packets are routed to the peer and may come from it. */
  | {
      readonly kind: "peer";
      readonly peer: number;
      readonly prefixes: readonly string[];
      /** Whether the engine wants to hear where it is. @default false */
      readonly roams?: boolean | undefined;
    }
  | { readonly kind: "remove-peer"; readonly peer: number }
  /** A session may be received with, until `until` of the engine's clock. */
  | {
      readonly kind: "session";
      readonly slot: number;
      readonly peer: number;
      readonly until: number;
    }
  /** It must not be used any more. */
  | { readonly kind: "close-session"; readonly slot: number }
  /** How to send to the peer. Without a `to` its packets are the engine's. */
  | { readonly kind: "send"; readonly peer: number; readonly to: SendTo | undefined }
  /** How long a packet to the peer may be. */
  | { readonly kind: "mtu"; readonly peer: number; readonly mtu: number }
  | {
      readonly kind: "filter";
      readonly rules: readonly FilterRuleJson[] | undefined;
      readonly localAddresses: readonly string[];
      readonly excluded: readonly string[];
    };

export interface SendTo {
  readonly slot: number;
  readonly until: number;
  /** Copies go to the engine, as many as it can use. */
  readonly inDoubt: boolean;
  /** struct sockaddr_in or sockaddr_in6; without one the engine sends what was sealed. */
  readonly address: Uint8Array | undefined;
}

/** Kinds of records; `a` and `b` are their two numbers. */
export const Kind = {
  /** reports: eight 64-bit floats, see `traffic.ts`. */
  traffic: 1,
  /** reports: peer a proved its key from the address in the bytes, which is not the one that it is sent to. */
  roamed: 2,
  /** reports: errno b for a datagram to the address in the bytes. */
  sendError: 3,
  /** reports: the TUN device is gone, errno b. */
  tunLost: 4,
  /** datagrams: a whole datagram after the 32 bytes of its sender's address. */
  datagram: 5,
  /** packets: a packet from the TUN device that the engine has to send. */
  packet: 6,
  /** packets: an opened packet of peer a that the engine has to judge. */
  opened: 7,
  /** packets: a copy of a message to peer a, for the engine to send again at once. */
  doubted: 8,
  /** packets: a message that was sealed for peer a, for the engine to send. */
  relayed: 9,
  /** packets: a copy of a message that was sent to peer a, to be kept. */
  sent: 10,
} as const;

export const Counter = {
  malformed: 0,
  noPeer: 1,
  filtered: 2,
  notIp: 3,
  wrongSource: 4,
  replay: 5,
  unauthenticated: 6,
  expired: 7,
  sentPackets: 8,
  sentBytes: 9,
  receivedPackets: 10,
  receivedBytes: 11,
  sendDropped: 12,
  tunDropped: 13,
  ringDropped: 14,
  sendCalls: 15,
  writeCalls: 16,
  truncated: 17,
  gso: 18,
} as const;
