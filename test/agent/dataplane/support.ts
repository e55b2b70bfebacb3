/** A shared memory without sockets, and packets to put into it. */
import fc from "fast-check";
import { concat, viewOf } from "../../../agent/src/base/bytes.ts";
import { addWords, finishChecksum, pseudoHeaderSum } from "../../../agent/src/core/ip/checksum.ts";
import {
  createMemory,
  type Layout,
  openPackets,
  type Packets,
  planMemory,
} from "../../../agent/src/dataplane/memory.ts";

export interface Bench {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly layout: Layout;
  readonly packets: Packets;
}

export function openBench(mtu = 1420): Bench {
  const layout = planMemory({ mtu, maxSessions: 8, maxPeers: 8 });
  const memory = createMemory(layout);
  const packets = openPackets(memory, layout, 0);
  return { bytes: new Uint8Array(memory.buffer), view: new DataView(memory.buffer), layout, packets };
}

export interface Flow {
  readonly version: 4 | 6;
  readonly isTcp: boolean;
  readonly port: number;
  readonly sequence: number;
  readonly flags: number;
  readonly options: number;
  readonly id: number;
  readonly dontFragment: boolean;
  readonly trafficClass: number;
}

export const flows: fc.Arbitrary<Flow> = fc.record({
  version: fc.constantFrom(4, 6),
  isTcp: fc.boolean(),
  port: fc.integer({ min: 1, max: 4 }),
  sequence: fc.nat({ max: 0xffff_ffff }),
  flags: fc.constantFrom(0x10, 0x18, 0x11, 0x90, 0x98, 0x02),
  options: fc.constantFrom(0, 4, 12, 40),
  id: fc.nat({ max: 0xffff }),
  dontFragment: fc.boolean(),
  trafficClass: fc.constantFrom(0, 1, 2, 3, 0xb8),
});

export function headerLengths({ version, isTcp, options }: Flow): { ip: number; transport: number } {
  return { ip: version === 4 ? 20 : 40, transport: isTcp ? 20 + options : 8 };
}

/** A whole packet with right checksums. */
export function makePacket(flow: Flow, payload: Uint8Array): Uint8Array {
  const { ip, transport } = headerLengths(flow);
  const out = concat(new Uint8Array(ip + transport), payload);
  const view = viewOf(out);
  writeIp(out, view, flow);
  view.setUint16(ip, 1000 + flow.port);
  view.setUint16(ip + 2, 80);
  if (flow.isTcp) {
    view.setUint32(ip + 4, flow.sequence);
    view.setUint32(ip + 8, 77);
    view.setUint8(ip + 12, (transport / 4) << 4);
    view.setUint8(ip + 13, flow.flags);
    view.setUint16(ip + 14, 512);
    out.fill(1, ip + 20, ip + transport);
  } else {
    view.setUint16(ip + 4, out.length - ip);
  }
  const addresses = flow.version === 4 ? out.subarray(12, 20) : out.subarray(8, 40);
  const pseudo = pseudoHeaderSum(addresses, flow.isTcp ? 6 : 17, out.length - ip);
  const value = finishChecksum(addWords(out, ip, out.length, pseudo));
  view.setUint16(ip + (flow.isTcp ? 16 : 6), value === 0 && !flow.isTcp ? 0xffff : value);
  return out;
}

function writeIp(out: Uint8Array, view: DataView, flow: Flow): void {
  if (flow.version === 6) {
    view.setUint32(0, 0x6000_0000 | (flow.trafficClass << 20) | 5);
    view.setUint16(4, out.length - 40);
    view.setUint8(6, flow.isTcp ? 6 : 17);
    view.setUint8(7, 64);
    out.set(V6_SOURCE, 8);
    out.set(V6_DESTINATION, 24);
    return;
  }
  view.setUint16(0, 0x4500 | flow.trafficClass);
  view.setUint16(2, out.length);
  view.setUint16(4, flow.id);
  view.setUint16(6, flow.dontFragment ? 0x4000 : 0);
  view.setUint8(8, 64);
  view.setUint8(9, flow.isTcp ? 6 : 17);
  out.set(V4_SOURCE, 12);
  out.set(V4_DESTINATION, 16);
  view.setUint16(10, finishChecksum(addWords(out, 0, 20)));
}

export const V4_SOURCE = Uint8Array.of(100, 64, 0, 1);
export const V4_DESTINATION = Uint8Array.of(100, 64, 0, 2);
export const V6_SOURCE = Uint8Array.of(0xfd, 0x7a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);
export const V6_DESTINATION = Uint8Array.of(0xfd, 0x7a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2);

/** Bytes that differ from place to place. */
export function pattern(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 167 + seed * 29 + (i >> 8)) & 0xff);
}

/** A virtio header; `flow` undefined: one packet without anything to do. */
export function virtio(flow: Flow | undefined, segmentSize: number): Uint8Array {
  const out = new Uint8Array(10);
  if (flow === undefined) return out;
  const view = viewOf(out);
  const { ip, transport } = headerLengths(flow);
  view.setUint8(0, 1);
  if (segmentSize > 0) view.setUint8(1, flow.isTcp ? (flow.version === 4 ? 1 : 4) : 5);
  view.setUint16(2, ip + transport, true);
  view.setUint16(4, segmentSize, true);
  view.setUint16(6, ip, true);
  view.setUint16(8, flow.isTcp ? 16 : 6, true);
  return out;
}

/** Packets as text, those of each flow in their order. */
export function byFlow(list: readonly Uint8Array[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const packet of list) {
    const isV4 = (packet[0] ?? 0) >> 4 === 4;
    const key = `${isV4} ${packet[isV4 ? 9 : 6]} ${packet.subarray(isV4 ? 20 : 40, isV4 ? 24 : 44).join()}`;
    const shown = packet.slice();
    // With "don't fragment" the identification means nothing (RFC 6864), and may change.
    if (isV4 && ((packet[6] ?? 0) & 0x40) !== 0) shown.fill(0, 4, 6).fill(0, 10, 12);
    found.set(key, [...(found.get(key) ?? []), Buffer.from(shown).toString("hex")]);
  }
  return found;
}
