/**
 * The packets inside the tunnel: judged by the filter of the network map, made to fit the way to their peer, and answered where
 * they are ours to answer. Who the peer is and how they are sealed it leaves to the node.
 */
import type { Prefix } from "../base/address.ts";
import { compileFilter, type FilterRuleJson, type PacketFilter } from "../core/filter/filter.ts";
import type { FlowStore } from "../core/filter/flow-table.ts";
import { clampMss } from "../core/ip/mss.ts";
import { type Packet, parsePacket } from "../core/ip/packet.ts";
import { answerTooBig, fragmentPacket } from "../core/ip/too-big.ts";
import { answerTsmpPing } from "../core/ip/tsmp.ts";

/** Packets that were dropped, by reason. */
export interface InnerDrops {
  malformed: number;
  filtered: number;
  tooBig: number;
}

export class InnerPackets {
  readonly #drops: InnerDrops;
  readonly #flows: FlowStore | undefined;
  readonly #delivered: Uint8Array[] = [];
  #filter: PacketFilter | undefined;

  constructor(drops: InnerDrops, flows: FlowStore | undefined) {
    this.#drops = drops;
    this.#flows = flows;
  }

  /** Flows that are open go on. */
  setFilter(
    rules: readonly FilterRuleJson[],
    localAddresses: readonly Prefix[],
    excluded: readonly Prefix[],
  ): void {
    const [previous, flows] = [this.#filter, this.#flows];
    this.#filter = compileFilter(rules, { localAddresses, excluded, previous, flows });
  }

  /** Undefined, and counted, where it is none. */
  parse(bytes: Uint8Array): Packet | undefined {
    const packet = parsePacket(bytes);
    if (typeof packet !== "string") return packet;
    this.#drops.malformed++;
    return undefined;
  }

  /** A packet of the device for a peer. @returns what is to be sealed for it: the packet, or its fragments, or nothing */
  handleOutbound(packet: Packet, mtu: number): readonly Uint8Array[] {
    this.#filter?.noteOutbound(packet);
    if (packet.bytes.length <= mtu) {
      clampMss(packet.bytes, mtu);
      return [packet.bytes];
    }
    const fragments = fragmentPacket(packet, mtu);
    if (fragments !== undefined) return fragments;
    this.#drops.tooBig++;
    const answer = answerTooBig(packet, mtu);
    if (answer !== undefined) this.#delivered.push(answer);
    return [];
  }

  /** A packet out of the tunnel: ours to answer, for the device, or refused. @returns the answer */
  handleInbound(bytes: Uint8Array, mtu: number): Uint8Array | undefined {
    const packet = this.parse(bytes);
    if (packet === undefined) return undefined;
    if (this.#filter === undefined || this.#filter.accepts(packet).verdict === "drop") {
      this.#drops.filtered++;
      return undefined;
    }
    const answer = answerTsmpPing(packet);
    if (answer !== undefined) return answer;
    clampMss(packet.bytes, mtu);
    this.#delivered.push(packet.bytes);
    return undefined;
  }

  /** A packet for the device. */
  poll(): Uint8Array | undefined {
    return this.#delivered.shift();
  }
}
