import fc from "fast-check";
import { blockedForwarding } from "../../../../agent/src/core/exit/foreign-firewalls.ts";

const WAY = { device: "eth0", isV4: true, what: "exit traffic" };
const PATH = { tunnel: "tun0", ways: [WAY], ownTable: "sallyport" };
const V6_WAY = { ...WAY, isV4: false, what: "IPv6 exit traffic" };

interface ChainText {
  readonly family?: string;
  readonly table: string;
  readonly name: string;
  readonly policy?: string;
  readonly rules?: readonly (readonly object[])[];
}

/** As `nft --json list ruleset` says it. */
function ruleset(...chains: readonly ChainText[]): string {
  const items = chains.flatMap(({ family = "ip", table, name, policy, rules = [] }) => [
    {
      chain: {
        family,
        table,
        name,
        ...(policy === undefined ? {} : { type: "filter", hook: "forward", policy }),
      },
    },
    ...rules.map((expr) => ({ rule: { family, table, chain: name, expr } })),
  ]);
  return JSON.stringify({ nftables: [{ metainfo: {} }, ...items] });
}

const match = (left: object, right: unknown, op = "=="): object => ({ match: { op, left, right } });
const meta = (key: string, right: unknown, op?: string): object => match({ meta: { key } }, right, op);
const state = (...states: readonly string[]): object => match({ ct: { key: "state" } }, states, "in");
const jump = (target: string): object => ({ jump: { target } });
const [ACCEPT, DROP, RETURN] = [{ accept: null }, { drop: null }, { return: null }];
const found = (text: string): readonly string[] => blockedForwarding(text, PATH).map((reason) => reason.text);

const DOCKER = (user: readonly (readonly object[])[]): string =>
  ruleset(
    {
      table: "filter",
      name: "FORWARD",
      policy: "drop",
      rules: [[jump("DOCKER-USER")], [jump("DOCKER-FORWARD")]],
    },
    { table: "filter", name: "DOCKER-USER", rules: user },
    { table: "filter", name: "DOCKER-FORWARD", rules: [[meta("iifname", "docker0"), ACCEPT]] },
  );

test("Docker drops by its policy: the rules to add go to DOCKER-USER, and there they help", () => {
  const [text = ""] = found(DOCKER([[RETURN]]));
  expect(text).toContain("`iptables -I DOCKER-USER -i tun0 -o eth0 -j ACCEPT`");
  expect(text).toContain(
    "`iptables -I DOCKER-USER -i eth0 -o tun0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`",
  );
  expect(text).toContain("`sallyport set --forward-accept=docker-user`");
  const out = [meta("iifname", "tun0"), meta("oifname", "eth0"), { counter: {} }, ACCEPT];
  const back = [meta("iifname", "eth0"), meta("oifname", "tun0"), state("established", "related"), ACCEPT];
  expect(found(DOCKER([out, back, [RETURN]]))).toEqual([]);
  expect(found(DOCKER([out]))).toHaveLength(1);
});

test("what iptables' own modules match is told by name only: their states accept answers, and drop nothing", () => {
  const [conntrack, comment] = ["conntrack", "comment"].map((name) => ({ xt: { type: "match", name } }));
  const out = [meta("iifname", "tun0"), meta("oifname", "eth0"), comment ?? {}, { counter: {} }, ACCEPT];
  const back = [meta("iifname", "eth0"), meta("oifname", "tun0"), conntrack ?? {}, comment ?? {}, ACCEPT];
  expect(found(DOCKER([[conntrack ?? {}, DROP], out, back]))).toEqual([]);
  expect(found(DOCKER([[conntrack ?? {}, ACCEPT]]))).toHaveLength(1);
  expect(found(DOCKER([[{ xt: { type: "match", name: "limit" } }, ACCEPT]]))).toHaveLength(1);
});

test("a table of one's own gets nftables' rules", () => {
  const [text] = found(ruleset({ family: "inet", table: "mine", name: "fwd", policy: "drop" }));
  expect(text).toContain(`\`nft 'insert rule inet mine fwd iifname "tun0" oifname "eth0" counter accept'\``);
  expect(text).not.toContain("--forward-accept");
});

test("ufw and firewalld are told in their own words", () => {
  const ufw = ruleset(
    { table: "filter", name: "FORWARD", policy: "drop", rules: [[jump("ufw-before-forward")]] },
    { table: "filter", name: "ufw-before-forward", rules: [[state("established"), ACCEPT]] },
  );
  expect(found(ufw).join()).toContain("`ufw route allow in on tun0 out on eth0`");
  const firewalld = ruleset(
    {
      ...{ family: "inet", table: "firewalld", name: "filter_FORWARD", policy: "accept" },
      rules: [
        [{ vmap: { key: { ct: { key: "state" } }, data: { set: [["established", ACCEPT]] } } }],
        [meta("iifname", "lo"), ACCEPT],
        [jump("zones")],
        [{ reject: { type: "icmpx", expr: "admin-prohibited" } }],
      ],
    },
    {
      family: "inet",
      table: "firewalld",
      name: "zones",
      rules: [[meta("iifname", "eth0"), { goto: { target: "none" } }]],
    },
  );
  expect(found(firewalld).join()).toContain("firewall-cmd --zone=trusted --add-interface=tun0");
});

describe("each family and each device that is in use is judged", () => {
  const judged = (text: string, ...ways: readonly (typeof WAY)[]): readonly string[] =>
    blockedForwarding(text, { ...PATH, ways }).map((reason) => reason.text);
  const policy = (family: string): string =>
    ruleset({ family, table: "filter", name: "FORWARD", policy: "drop" });

  test("tables of one family see that one only, those of inet both, and are named once", () => {
    expect(judged(policy("ip"), V6_WAY)).toEqual([]);
    expect(judged(policy("ip6"), WAY)).toEqual([]);
    expect(judged(policy("ip6"), WAY, V6_WAY)).toEqual([
      expect.stringMatching(/drops IPv6 exit traffic in .*"ip6 filter": add `ip6tables -I FORWARD -i tun0/),
    ]);
    expect(judged(policy("inet"), WAY, V6_WAY)).toEqual([expect.stringContaining("drops exit traffic in")]);
  });

  test.each([["nfproto"], ["protocol"]])("a rule that asks for the family by %s", (key) => {
    const value = key === "nfproto" ? "ipv6" : "ip6";
    const text = ruleset({
      ...{ family: "inet", table: "mine", name: "fwd", policy: "accept" },
      rules: [[meta(key, value), DROP]],
    });
    expect(judged(text, WAY)).toEqual([]);
    expect(judged(text, V6_WAY)).toHaveLength(1);
  });

  test("a network that is advertised has rules of its own", () => {
    const lan = { device: "lan0", isV4: true, what: "what goes to the advertised networks by lan0" };
    const rules = [
      [meta("iifname", "tun0"), meta("oifname", "eth0"), ACCEPT],
      [meta("iifname", "eth0"), meta("oifname", "tun0"), ACCEPT],
    ];
    const text = ruleset({ table: "mine", name: "fwd", policy: "drop", rules });
    expect(judged(text, WAY, lan)).toEqual([
      expect.stringMatching(/drops what goes to the advertised networks by lan0 in .*oifname "lan0" counter/),
    ]);
  });
});

test.each([
  ["nothing", ruleset()],
  ["a policy that accepts", ruleset({ table: "filter", name: "FORWARD", policy: "accept" })],
  ["our own table", ruleset({ family: "inet", table: "sallyport", name: "forward", policy: "drop" })],
  ["IPv6 only", ruleset({ family: "ip6", table: "filter", name: "FORWARD", policy: "drop" })],
  [
    "a drop of some packets only",
    ruleset({ table: "filter", name: "F", policy: "accept", rules: [[match({ payload: {} }, 25), DROP]] }),
  ],
  [
    "interfaces of a set, by a wildcard, or not another",
    ruleset({
      ...{ table: "filter", name: "F", policy: "drop" },
      rules: [
        [meta("iifname", { set: ["wg0", "tun*"] }), meta("oifname", "docker0", "!="), ACCEPT],
        [meta("oifname", "tun0"), ACCEPT],
      ],
    }),
  ],
])("%s blocks nothing", (_, text) => {
  expect(found(text)).toEqual([]);
});

test("a limit, a log and a counter are no verdict, and endless jumps end", () => {
  const text = ruleset(
    {
      table: "filter",
      name: "F",
      policy: "accept",
      rules: [[{ limit: {} }, DROP], [{ log: {} }], [jump("a")]],
    },
    { table: "filter", name: "a", rules: [[jump("a")], [{ counter: {} }, DROP]] },
  );
  expect(found(text)).toHaveLength(1);
});

test("whatever is not a ruleset finds nothing and throws nothing", () => {
  fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), (text) => void blockedForwarding(text, PATH)));
  fc.assert(
    fc.property(fc.array(fc.jsonValue()), (expr) => {
      const rule = { family: "ip", table: "t", chain: "c", expr };
      const chain = {
        family: "ip",
        table: "t",
        name: "c",
        type: "filter",
        hook: "forward",
        policy: "accept",
      };
      blockedForwarding(JSON.stringify({ nftables: [{ chain }, { rule }] }), PATH);
    }),
  );
});
