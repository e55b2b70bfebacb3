import { Ip, IpPort, Prefix } from "../../../../agent/src/base/address.ts";
import {
  type CloudInterface,
  defaultNames,
  type Facts,
  type ForwardingSettings,
  type Link,
} from "../../../../agent/src/core/exit/facts.ts";
import { disjoint, type Layout, layoutOf } from "../../../../agent/src/core/exit/layout.ts";
import { planForwarding } from "../../../../agent/src/core/exit/plan.ts";
import { isProven, judgeProof } from "../../../../agent/src/core/exit/proof.ts";

const link = (name: string, mac: string, ...addresses: readonly string[]): Link => ({
  name,
  mac,
  addresses: addresses.map((text) => {
    const [ip = "", bits = ""] = text.split("/");
    return { ip: Ip.parse(ip), bits: Number(bits) };
  }),
});

const cloudInterface = (
  deviceNumber: number,
  mac: string,
  values: Partial<CloudInterface>,
): CloudInterface => ({
  ...{ id: `eni-${deviceNumber}`, mac, deviceNumber, addresses: [], publicAddresses: [] },
  ...{ subnets: [], ranges: [Prefix.parse("10.0.0.0/16")], ...values },
});

const PRIMARY = cloudInterface(0, "02:00:00:00:00:0e", {
  addresses: [Ip.parse("10.0.1.10")],
  subnets: [Prefix.parse("10.0.1.0/24")],
});
const SECOND = cloudInterface(1, "02:00:00:00:00:0a", {
  addresses: [Ip.parse("10.0.0.10"), Ip.parse("2001:db8::10")],
  publicAddresses: [Ip.parse("198.51.100.10")],
  subnets: [Prefix.parse("10.0.0.0/24"), Prefix.parse("2001:db8::/64")],
});
/** The names are such that their order would mislead. */
const FACTS: Facts = {
  links: [
    link("lo", "00:00:00:00:00:00", "127.0.0.1/8"),
    link("aaa0", SECOND.mac, "10.0.0.10/24", "2001:db8::10/64"),
    link("zzz0", PRIMARY.mac, "10.0.1.10/24"),
    link("docker0", "02:42:00:00:00:01", "172.17.0.1/16"),
    link("tun0", "", "100.64.0.1/32"),
  ],
  defaultRoutes: [
    { device: "zzz0", via: Ip.parse("10.0.1.1"), isV4: true, metric: 100 },
    { device: "aaa0", via: Ip.parse("fe80::1"), isV4: false, metric: 100 },
  ],
  routed: [],
  cloud: [SECOND, PRIMARY],
  metadataFailure: undefined,
};
const SETTINGS: ForwardingSettings = {
  ...{
    tunnel: "tun0",
    port: 41_641,
    otherPorts: [],
    exit: true,
    advertised: [],
    mode: "auto",
    ipv6: "block",
  },
  ...{ ingressInterface: undefined, egressInterface: undefined, ingressUid: undefined, names: defaultNames },
};
const layout = (facts: Partial<Facts>, settings: Partial<ForwardingSettings> = {}) =>
  layoutOf({ ...FACTS, ...facts }, { ...SETTINGS, ...settings });
const usable = (facts: Partial<Facts>, settings: Partial<ForwardingSettings> = {}): Layout => {
  const found = layout(facts, settings);
  if (found.kind === "unusable") throw new Error(found.reason.text);
  return found;
};

describe("which interface is which", () => {
  test("the metadata and MAC addresses say, not the names or their order", () => {
    expect(usable({})).toMatchObject({ kind: "split", egress: "zzz0", ingress: { device: "aaa0" } });
    expect(usable({ cloud: [PRIMARY, SECOND] })).toMatchObject({
      egress: "zzz0",
      ingress: { device: "aaa0" },
    });
  });

  test("with one interface both ways are the same", () => {
    const cloud = [{ ...PRIMARY, publicAddresses: [Ip.parse("198.51.100.7")] }];
    const found = usable({ cloud });
    expect(found).toMatchObject({ kind: "direct", egress: "zzz0", ingress: { device: "zzz0" } });
    expect(found.egressPublic.join()).toBe("198.51.100.7");
  });

  test("a machine in no cloud uses its default route's interface, the one of the lowest metric", () => {
    const other = { device: "aaa0", via: Ip.parse("10.0.0.1"), isV4: true, metric: 20 };
    expect(usable({ cloud: undefined })).toMatchObject({ kind: "direct", egress: "zzz0" });
    expect(usable({ cloud: undefined, defaultRoutes: [...FACTS.defaultRoutes, other] }).egress).toBe("aaa0");
  });

  test.each([["aaa0"], ["02:00:00:00:00:0A"], ["eni-1"]])(
    "the operator may name one: %s",
    (ingressInterface) => {
      expect(usable({}, { ingressInterface }).ingress.device).toBe("aaa0");
    },
  );

  test.each([
    [{ mode: "split" as const }, { cloud: [PRIMARY] }, "ingress-missing"],
    [{ ingressInterface: "eni-9" }, {}, "ingress-missing"],
    [{ egressInterface: "eth9" }, {}, "egress-missing"],
    [{}, { cloud: undefined, defaultRoutes: [] }, "egress-missing"],
    [{}, { cloud: undefined, metadataFailure: "it does not answer" }, "metadata-missing"],
    [{}, { links: FACTS.links.filter(({ name }) => name !== "aaa0") }, "ingress-missing"],
  ])("what is missing closes the exit: %j", (settings, facts, code) => {
    const found = layout(facts, settings);
    expect(found).toMatchObject({ kind: "unusable", reason: { code, closesExit: true } });
    const plan = planForwarding({ ...FACTS, ...facts }, { ...SETTINGS, ...settings });
    expect(plan.open).toBe(false);
    expect(plan.nft).toContain('iifname "tun0" counter drop');
    expect(plan.nft).not.toContain("masquerade");
  });

  test("an address that the metadata know and the device lacks is set", () => {
    const links = FACTS.links.map((one) => (one.name === "aaa0" ? { ...one, addresses: [] } : one));
    expect(planForwarding({ ...FACTS, links }, SETTINGS).addresses).toEqual([
      "10.0.0.10/24 dev aaa0",
      "2001:db8::10/128 dev aaa0",
    ]);
  });

  test("its own networks are those of the cloud and of every interface", () => {
    expect(usable({}).own.join(" ")).toBe("10.0.0.0/16 172.17.0.0/16 2001:db8::/64");
    expect(disjoint([Prefix.parse("10.0.0.0/8"), Prefix.parse("10.1.0.0/16")]).join()).toBe("10.0.0.0/8");
  });
});

describe("what the kernel is told", () => {
  test("rules and routes are the proven ones, each for what is made here only", () => {
    const { rules, routes } = planForwarding(FACTS, { ...SETTINGS, otherPorts: [3478], ingressUid: 990 });
    const of = (list: typeof rules, isV4: boolean): string[] =>
      list.filter((line) => line.isV4 === isV4).map(({ text }) => text);
    expect(of(rules, true)).toEqual([
      "pref 5100 iif lo from 10.0.0.10 lookup 51",
      "pref 5101 iif lo ipproto udp sport 41641 lookup 51",
      "pref 5101 iif lo ipproto udp sport 3478 lookup 51",
      "pref 5102 iif lo uidrange 990-990 lookup 51",
      "pref 5099 iif lo from 10.0.1.10 lookup main",
    ]);
    expect(of(rules, false)).toContain("pref 5100 iif lo from 2001:db8::10 lookup 51");
    expect(of(routes, true)).toEqual([
      "10.0.0.0/24 dev aaa0 table 51",
      "default via 10.0.0.1 dev aaa0 table 51",
      "unreachable default table 51 metric 4278198272",
    ]);
    expect(of(routes, false)).toContain("default via fe80::1 dev aaa0 table 51");
    expect(rules.every(({ text }) => text.includes("iif lo"))).toBe(true);
  });

  test("a node with one interface needs none of them", () => {
    expect(planForwarding({ ...FACTS, cloud: [PRIMARY] }, SETTINGS)).toMatchObject({ rules: [], routes: [] });
  });

  test("only the tunnel and the egress forward, and IPv6 only where it is let out", () => {
    const paths = (settings: Partial<ForwardingSettings>): string[] =>
      planForwarding(FACTS, { ...SETTINGS, ...settings })
        .sysctls.map(({ path }) => path)
        .filter((path) => /forwarding|accept_ra/.test(path));
    expect(paths({})).toEqual(["net/ipv4/conf/tun0/forwarding", "net/ipv4/conf/zzz0/forwarding"]);
    expect(paths({ ipv6: "snat" }).slice(2)).toEqual([
      ...["aaa0", "zzz0", "docker0"].map((name) => `net/ipv6/conf/${name}/accept_ra`),
      "net/ipv6/conf/all/forwarding",
    ]);
    expect(paths({ exit: false, advertised: [Prefix.parse("172.17.0.0/16")] })).toContain(
      "net/ipv4/conf/docker0/forwarding",
    );
  });

  test("what it forwards goes by the egress, where IPv6 is let out by the ingress, and by the devices of advertised networks", () => {
    const ways = (settings: Partial<ForwardingSettings>, facts: Partial<Facts> = {}): readonly string[] =>
      planForwarding({ ...FACTS, ...facts }, { ...SETTINGS, ...settings }).ways.map(
        ({ device, isV4 }) => `${device} ${isV4 ? 4 : 6}`,
      );
    expect(ways({})).toEqual(["zzz0 4"]);
    expect(ways({ ipv6: "snat" })).toEqual(["zzz0 4", "aaa0 6"]);
    const advertised = [Prefix.parse("172.17.0.0/16"), Prefix.parse("10.9.0.0/16")];
    const routed = ["zzz0", "docker0", "tun0", "lo"].map((device) => ({ device, isV4: true }));
    expect(ways({ exit: false, advertised }, { routed })).toEqual(["zzz0 4", "docker0 4"]);
    expect(ways({ exit: false, advertised: advertised.slice(0, 1) })).toEqual(["docker0 4"]);
    const paths = planForwarding({ ...FACTS, routed }, { ...SETTINGS, exit: false, advertised }).sysctls.map(
      ({ path }) => path,
    );
    expect(paths).toContain("net/ipv4/conf/docker0/forwarding");
  });

  test("the kernel is asked where each family that is in use leaves", () => {
    const asked = (settings: Partial<ForwardingSettings>): readonly string[] =>
      planForwarding(FACTS, { ...SETTINGS, ...settings }).checks.map(
        ({ question, device, reason }) => `${question} ${device} ${reason.closesExit}`,
      );
    expect(asked({ ipv6: "snat" })).toEqual([
      "192.0.2.1 from 100.127.255.254 iif tun0 zzz0 true",
      "3fff::1 from fd7a:115c:a1e0::ffff:fffe iif tun0 aaa0 false",
      "192.0.2.1 from 10.0.0.10 aaa0 false",
      "192.0.2.1 ipproto udp sport 41641 aaa0 false",
      "3fff::1 from 2001:db8::10 aaa0 false",
      "3fff::1 ipproto udp sport 41641 aaa0 false",
    ]);
    expect(asked({ exit: false })[0]).toBe("192.0.2.1 from 10.0.0.10 aaa0 false");
  });

  test("a reason that closes the exit takes the way to the egress out of the packet filter, and leaves what is advertised", () => {
    const settings = { ...SETTINGS, advertised: [Prefix.parse("10.0.5.0/24")] };
    const reason = { code: "routes-lost", text: "", closesExit: true } as const;
    const [open, closed] = [planForwarding(FACTS, settings), planForwarding(FACTS, settings, [reason])];
    expect(open.nft).toContain('oifname "zzz0" goto carried');
    expect(closed.nft).not.toContain('oifname "zzz0" goto carried');
    expect(closed.nft).toContain("elements = { 10.0.5.0/24 }");
    expect(planForwarding(FACTS, settings, [{ ...reason, closesExit: false }]).open).toBe(true);
  });

  test("several on one machine stay apart by their names", () => {
    const names = { nftTable: "other", table: 151, priority: 6100 };
    const { nft, rules } = planForwarding(FACTS, { ...SETTINGS, names });
    expect(nft.match(/table inet \w+/g)).toEqual(Array.from({ length: 3 }, () => "table inet other"));
    expect(rules[0]?.text).toBe("pref 6100 iif lo from 10.0.0.10 lookup 151");
  });
});

describe("what the internet sees", () => {
  const split = usable({});
  const [nat, ingress] = [Ip.parse("192.0.2.1"), IpPort.parse("198.51.100.10:41641")];
  const judged = (promised: readonly Ip[], egress: Ip | undefined, seen: IpPort | undefined = ingress) =>
    judgeProof(split, promised, { egress, ingress: seen }).map(({ code }) => code);

  test("the promised addresses prove both ways", () => {
    expect(judged([nat], nat)).toEqual([]);
    expect(isProven(split, [nat], { egress: nat, ingress })).toBe(true);
  });

  test("without a promise any address but the ingress interface's will do", () => {
    expect(judged([], nat)).toEqual([]);
    expect(judged([], ingress.ip)).toEqual(["egress-wrong-address"]);
  });

  test("another address is wrong, no answer is no proof", () => {
    expect(judged([nat], Ip.parse("192.0.2.2"))).toEqual(["egress-wrong-address"]);
    expect(judged([nat], undefined)).toEqual(["egress-unproven"]);
    expect(judged([nat], nat, IpPort.parse("192.0.2.1:41641"))).toEqual(["ingress-wrong-address"]);
    expect(isProven(split, [nat], { egress: nat, ingress: undefined })).toBe(false);
  });
});
