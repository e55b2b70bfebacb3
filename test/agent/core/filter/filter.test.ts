import fc from "fast-check";
import { Ip, IpPort, Prefix } from "../../../../agent/src/base/address.ts";
import type { FilterRuleJson } from "../../../../agent/src/core/filter/filter.ts";
import { compileFilter } from "../../../../agent/src/core/filter/filter.ts";
import { parseSource } from "../../../../agent/src/core/filter/source.ts";
import { buildPacket, buildUdp } from "../../../../agent/src/core/ip/build.ts";
import type { Packet } from "../../../../agent/src/core/ip/packet.ts";
import { parsePacket } from "../../../../agent/src/core/ip/packet.ts";
import { hex, vectors } from "../../../vectors/load.ts";

interface FilterVectors {
  readonly sets: readonly {
    readonly name: string;
    readonly rules: readonly FilterRuleJson[];
    readonly local_addresses: readonly string[];
    readonly cases: readonly {
      name: string;
      dir: "in" | "out";
      packet: string;
      verdict: "Accept" | "Drop";
    }[];
    readonly "caps_100.64.0.2_to_100.64.0.1"?: Readonly<Record<string, readonly unknown[]>>;
  }[];
  readonly source_parsing: readonly {
    src: string;
    prefixes?: string[];
    caps?: string[] | null;
    error?: string;
  }[];
}

const { sets, source_parsing } = vectors<FilterVectors>("filter.json");

test.each(sets)("Tailscale's verdicts: $name", ({ rules, local_addresses, cases, ...set }) => {
  const filter = compileFilter(rules, { localAddresses: local_addresses.map((text) => Prefix.parse(text)) });
  expect(filter.malformedRules).toBe(0);
  for (const { name, dir, packet, verdict } of cases) {
    if (dir === "in")
      expect([name, filter.accepts(hex(packet)).verdict]).toEqual([name, verdict.toLowerCase()]);
    else filter.noteOutbound(hex(packet));
  }
  const granted = filter.capabilities(Ip.parse("100.64.0.2"), Ip.parse("100.64.0.1"));
  expect(Object.fromEntries(granted)).toEqual(set["caps_100.64.0.2_to_100.64.0.1"] ?? {});
});

test.each(source_parsing)(
  "the source $src is read as Tailscale reads it",
  ({ src, prefixes, caps, error }) => {
    const source = parseSource(src);
    if (error !== undefined) {
      expect(source).toBe(reasonFor(error));
      return;
    }
    if (typeof source === "string") throw new Error(source);
    expect(source.prefixes.map((prefix) => prefix.text)).toEqual(prefixes);
    expect(source.capability).toBe(caps?.[0]);
  },
);

test("any range is covered by prefixes that follow one another and leave nothing out", () => {
  const number = fc.integer({ min: 0, max: 0xffffffff });
  fc.assert(
    fc.property(number, number, (a, b) => {
      const [low, high] = [Math.min(a, b), Math.max(a, b)];
      const source = parseSource(`${ipOf(low)}-${ipOf(high)}`);
      if (typeof source === "string") throw new Error(source);
      let next = low;
      for (const prefix of source.prefixes) {
        expect(prefix.ip.text).toBe(ipOf(next));
        next += 2 ** (32 - prefix.bits);
      }
      expect(next).toBe(high + 1);
    }),
  );
});

const SELF = IpPort.parse("100.64.0.1:4000");
const PEER = IpPort.parse("100.64.0.2:53");
const local = { localAddresses: [Prefix.host(SELF.ip)] };
const anyone: FilterRuleJson = {
  SrcIPs: ["*"],
  DstPorts: [{ IP: "*", Ports: { First: 0, Last: 65535 } }],
};
const udp = (from: IpPort, to: IpPort): Packet => parsed(buildUdp(from, to, new Uint8Array(4)));

test("an answer is let in only to the port that asked, and from the one that was asked", () => {
  const filter = compileFilter([], local);
  filter.noteOutbound(udp(SELF, PEER));
  expect(filter.accepts(udp(PEER, SELF))).toEqual({ verdict: "accept", why: "reply" });
  expect(filter.accepts(udp(PEER, new IpPort(SELF.ip, 4001)))).toEqual({ verdict: "drop", why: "no-rule" });
});

test("the least recently used of 513 flows is forgotten", () => {
  const filter = compileFilter([], local);
  const own = (n: number): IpPort => new IpPort(SELF.ip, 1000 + n);
  for (let n = 0; n < 512; n++) filter.noteOutbound(udp(own(n), PEER));
  expect(filter.accepts(udp(PEER, own(0))).verdict).toBe("accept");
  filter.noteOutbound(udp(own(512), PEER));
  expect(filter.accepts(udp(PEER, own(0))).verdict).toBe("accept");
  expect(filter.accepts(udp(PEER, own(1))).verdict).toBe("drop");
  expect(filter.accepts(udp(PEER, own(512))).verdict).toBe("accept");
});

test("an exit node lets packets out to the world but not into its own networks", () => {
  const filter = compileFilter([anyone], {
    localAddresses: [Prefix.host(SELF.ip), Prefix.parse("0.0.0.0/0"), Prefix.parse("172.31.0.9/32")],
    excluded: [Prefix.parse("172.31.0.0/16")],
  });
  const why = (to: string): string => filter.accepts(udp(PEER, IpPort.parse(to))).why;
  expect(["8.8.8.8:53", "172.31.0.2:53", "172.31.0.9:53", "100.64.0.1:53"].map(why)).toEqual([
    "rule",
    "not-local",
    "rule",
    "rule",
  ]);
});

test("a fragment for somebody else is dropped like its first part", () => {
  const filter = compileFilter([anyone], local);
  const fragment = udp(PEER, IpPort.parse("10.0.0.1:53")).bytes;
  fragment.set([0, 200], 6);
  expect(filter.accepts(parsed(fragment)).why).toBe("not-local");
});

test("an IPv4 address in IPv6 clothes is dropped", () => {
  const filter = compileFilter([anyone], { localAddresses: [Prefix.parse("::/0")] });
  const packet = buildPacket(Ip.parse("fd7a::2"), Ip.parse("fd7a::1"), 17, new Uint8Array(8));
  packet.set(Ip.parse("10.0.0.1").mapped, 24);
  expect(filter.accepts(parsed(packet)).why).toBe("mapped-address");
});

test("ICMPv6 inside IPv4 is nobody's", () => {
  const filter = compileFilter([anyone], local);
  const message = Uint8Array.of(129, 0, 0, 0, 0, 0, 0, 0);
  expect(filter.accepts(parsed(buildPacket(PEER.ip, SELF.ip, 58, message))).verdict).toBe("drop");
});

test("a source named by a capability is whoever holds it", () => {
  const rule = { ...anyone, SrcIPs: ["cap:example.com/x"] };
  const holders = new Map([["example.com/x", [Prefix.host(PEER.ip)]]]);
  const filter = compileFilter([rule], { ...local, capabilityHolders: holders });
  expect(filter.accepts(udp(PEER, SELF)).verdict).toBe("accept");
  expect(filter.accepts(udp(IpPort.parse("100.64.0.3:53"), SELF)).verdict).toBe("drop");
});

const malformed: readonly unknown[] = [
  null,
  7,
  { SrcIPs: "*" },
  { SrcIPs: [7] },
  { SrcIPs: ["100.64.0.1/10"] },
  { SrcIPs: ["*"], IPProto: [256] },
  { SrcIPs: ["*"], IPProto: ["tcp"] },
  { SrcIPs: ["*"], DstPorts: [{ IP: "*" }] },
  { SrcIPs: ["*"], DstPorts: [{ IP: "cap:x", Ports: { First: 0, Last: 1 } }] },
  { SrcIPs: ["*"], DstPorts: [{ IP: "*", Ports: { First: 2, Last: 1 } }] },
  { SrcIPs: ["*"], DstPorts: [{ IP: "*", Ports: { First: 0, Last: 65536 } }] },
  { SrcIPs: ["*"], CapGrant: [{ Dsts: ["nowhere"] }] },
  { SrcIPs: ["*"], CapGrant: [{ Dsts: [], CapMap: { x: 1 } }] },
  { SrcIPs: ["*"], CapGrant: [{ Dsts: [], CapMap: [] }] },
];

test.each(malformed.map((rule) => [rule]))(
  "the malformed rule %j is left out and the others stay",
  (rule) => {
    const filter = compileFilter([rule as FilterRuleJson, anyone], local);
    expect(filter.malformedRules).toBe(1);
    expect(filter.accepts(udp(PEER, SELF)).verdict).toBe("accept");
  },
);

test("whatever the server sends as rules compiles, and any bytes get a verdict", () => {
  const filter = compileFilter([anyone], local);
  fc.assert(
    fc.property(fc.array(fc.jsonValue()), fc.uint8Array({ maxLength: 80 }), (rules, bytes) => {
      compileFilter(rules as readonly FilterRuleJson[], local);
      filter.noteOutbound(bytes);
      expect(["accept", "drop"]).toContain(filter.accepts(bytes).verdict);
    }),
  );
});

function parsed(bytes: Uint8Array): Packet {
  const packet = parsePacket(bytes);
  if (typeof packet === "string") throw new Error(packet);
  return packet;
}

function reasonFor(error: string): string {
  if (error.includes("non-network bits")) return "host-bits-set";
  return error.includes("invalid IP range") ? "reversed-range" : "not-an-address";
}

function ipOf(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join(".");
}
