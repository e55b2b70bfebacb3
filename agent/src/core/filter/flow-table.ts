/** The flows that this node opened, least recently used forgotten first. */
import type { Packet } from "../ip/packet.ts";
import { addressLength, destinationOffset, sourceOffset } from "../ip/packet.ts";

/** Where flows are remembered. */
export interface FlowStore {
  /** A packet was sent to a peer. */
  note(outbound: Packet): void;
  isAnswer(inbound: Packet): boolean;
}

export class FlowTable implements FlowStore {
  readonly #limit: number;
  /** In order of use: a map iterates in the order in which its keys were set. */
  readonly #flows = new Map<string, true>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  note(outbound: Packet): void {
    const key = flowKey(outbound, sourceOffset(outbound), destinationOffset(outbound), 0, 2);
    this.#touch(key);
    if (this.#flows.size <= this.#limit) return;
    for (const oldest of this.#flows.keys()) {
      this.#flows.delete(oldest);
      return;
    }
  }

  isAnswer(inbound: Packet): boolean {
    const key = flowKey(inbound, destinationOffset(inbound), sourceOffset(inbound), 2, 0);
    if (!this.#flows.has(key)) return false;
    this.#touch(key);
    return true;
  }

  #touch(key: string): void {
    this.#flows.delete(key);
    this.#flows.set(key, true);
  }
}

/** Protocol, own address and port, peer's address and port; one character a byte, since strings are what maps compare by value. */
function flowKey(packet: Packet, own: number, peer: number, ownPort: number, peerPort: number): string {
  const { bytes, payloadAt } = packet;
  const length = addressLength(packet);
  let key = String.fromCharCode(packet.protocol);
  for (let i = 0; i < length; i++) key += String.fromCharCode(bytes[own + i] ?? 0, bytes[peer + i] ?? 0);
  for (const at of [payloadAt + ownPort, payloadAt + peerPort]) {
    key += String.fromCharCode(bytes[at] ?? 0, bytes[at + 1] ?? 0);
  }
  return key;
}
