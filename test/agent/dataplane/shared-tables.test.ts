/** The tables in shared memory against the plain ones that say the same. */
import fc from "fast-check";
import { Ip, Prefix } from "../../../agent/src/base/address.ts";
import { FlowTable } from "../../../agent/src/core/filter/flow-table.ts";
import { parsePacket } from "../../../agent/src/core/ip/packet.ts";
import { AllowedIps } from "../../../agent/src/core/wireguard/allowed-ips.ts";
import { RouteTable, routeTableSize } from "../../../agent/src/dataplane/route-table.ts";
import { SessionIndex } from "../../../agent/src/dataplane/session-table.ts";
import { FLOWS_SIZE, SharedFlows } from "../../../agent/src/dataplane/shared-flows.ts";
import { type Flow, makePacket, pattern } from "./support.ts";

const PREFIXES = 64;

const addresses = fc.oneof(
  fc.tuple(fc.constantFrom(10, 100), fc.nat(3), fc.nat(1), fc.nat(3)).map((bytes) => Uint8Array.from(bytes)),
  fc.tuple(fc.constantFrom(0xfd, 0x20), fc.nat(1), fc.nat(3)).map(([first, middle, last]) => {
    const bytes = new Uint8Array(16);
    bytes.set([first, 0, middle]);
    bytes[15] = last;
    return bytes;
  }),
);
const prefixes = fc.tuple(addresses, fc.double({ min: 0, max: 1, noNaN: true })).map(([bytes, part]) => {
  const most = bytes.length * 8;
  return Prefix.of(Ip.fromBytes(bytes), part > 0.5 ? most : Math.floor(part * 2 * most));
});
/** What a peer is given: nothing takes it out. */
const changes = fc.array(fc.tuple(fc.nat(5), fc.array(prefixes, { maxLength: 4 })), { maxLength: 40 });

function openRoutes(): { table: RouteTable; bytes: Uint8Array; at: number } {
  const at = routeTableSize(PREFIXES);
  const memory = new SharedArrayBuffer(at + 64);
  return { table: new RouteTable(memory, 0, PREFIXES), bytes: new Uint8Array(memory), at };
}

test("an address is routed to one of those who have the longest prefix, and may be sent from by all of them", () => {
  fc.assert(
    fc.property(changes, fc.array(addresses, { minLength: 1, maxLength: 20 }), (script, asked) => {
      const { table, bytes, at } = openRoutes();
      const plain = new AllowedIps<number>();
      const held = new Map<number, readonly Prefix[]>();
      for (const [peer, wanted] of script) {
        const given = [...new Map(wanted.map((prefix) => [prefix.text, prefix])).values()];
        table.set(peer, given, held.get(peer) ?? []);
        held.set(peer, given);
        plain.set(peer, given);
        for (const address of asked) {
          bytes.set(address, at);
          const length = address.length === 4 ? 4 : 16;
          const packet = packetFrom(address);
          const owners = [0, 1, 2, 3, 4, 5].filter((one) => plain.mayHaveSent(one, packet));
          const found = table.lookup(at, length);
          expect(owners.length === 0 ? [-1] : owners).toContain(found);
          expect([0, 1, 2, 3, 4, 5].filter((one) => table.mayHaveSent(one, at, length))).toEqual(owners);
        }
      }
      expect(table.isIncomplete).toBe(false);
    }),
  );
});

function packetFrom(address: Uint8Array): Uint8Array {
  const packet = new Uint8Array(40);
  packet[0] = address.length === 4 ? 0x45 : 0x60;
  packet.set(address, address.length === 4 ? 12 : 8);
  return packet;
}

test("peers that come and go leave room, and what does not fit is known to be missing", () => {
  const { table } = openRoutes();
  const host = (i: number): Prefix => Prefix.host(Ip.fromBytes(Uint8Array.of(10, 0, i >> 8, i & 255)));
  for (let i = 0; i < 5_000; i++) {
    table.set(i % 7, [host(i)], i < 7 ? [] : [host(i - 7)]);
    expect(table.isIncomplete).toBe(false);
  }
  const many = Array.from({ length: 200 }, (_, i) => host(i));
  table.set(1, many, [host(4_999)]);
  expect(table.isIncomplete).toBe(true);
});

const FLOW: Flow = {
  ...{ version: 4, isTcp: false, port: 1, sequence: 0, flags: 0, options: 0 },
  ...{ id: 0, dontFragment: true, trafficClass: 0 },
};

test("a flow is an answer's if it was noted, as the plain table has it", () => {
  const keys = fc.record({
    version: fc.constantFrom(4 as const, 6 as const),
    port: fc.integer({ min: 1, max: 300 }),
  });
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), keys), { maxLength: 200 }), (script) => {
      const [shared, plain] = [new SharedFlows(new SharedArrayBuffer(FLOWS_SIZE), 0), new FlowTable(100_000)];
      for (const [isSent, key] of script) {
        const sent = makePacket({ ...FLOW, ...key }, pattern(10));
        const packet = parsePacket(isSent ? sent : turned(sent, key.version));
        if (typeof packet === "string") throw new Error(packet);
        if (!isSent) expect(shared.isAnswer(packet)).toBe(plain.isAnswer(packet));
        else for (const table of [shared, plain]) table.note(packet);
      }
    }),
    { numRuns: 50 },
  );
});

/** The packet from the other side. */
function turned(packet: Uint8Array, version: 4 | 6): Uint8Array {
  const out = packet.slice();
  const [at, length, ports] = version === 4 ? [12, 4, 20] : [8, 16, 40];
  out.set(packet.subarray(at, at + length), at + length);
  out.set(packet.subarray(at + length, at + 2 * length), at);
  out.set(packet.subarray(ports, ports + 2), ports + 2);
  out.set(packet.subarray(ports + 2, ports + 4), ports);
  return out;
}

test("a session is found by its index until it is taken out", () => {
  const index = new SessionIndex(new SharedArrayBuffer(1 << 16), 0, 64);
  for (let i = 0; i < 64; i++) index.add(i * 0x01010101, i);
  expect([0, 5, 63].map((i) => index.find(i * 0x01010101))).toEqual([0, 5, 63]);
  index.remove(5 * 0x01010101, 4);
  expect(index.find(5 * 0x01010101)).toBe(5);
  index.remove(5 * 0x01010101, 5);
  expect([index.find(5 * 0x01010101), index.find(77)]).toEqual([-1, -1]);
});
