import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { sleep } from "../../lab/system.ts";
import { requires } from "../skip.ts";
import { canBuildLabs, LAB_NEEDS } from "./bundle.ts";
import {
  CLIENT,
  ExitWorld,
  INGRESS_PUBLIC,
  INGRESS_V6,
  NAT_PUBLIC,
  PORT,
  SERVER,
  SERVER_V6,
} from "./exit-world.ts";

const it = requires("root", canBuildLabs, LAB_NEEDS);
const withEthtool = requires(
  "ethtool",
  canBuildLabs && spawnSync("ethtool", ["--version"]).status === 0,
  "ethtool is not installed: apt-get install ethtool",
);

let world: ExitWorld;

const askTcp = async (destination: string): Promise<string | undefined> =>
  (await world.probe("client", "tcp-ask", destination))[0];
const askUdp = async (from: number): Promise<string | undefined> =>
  (await world.probe("client", "udp-ask", `${from}`, `${SERVER}:9090`))[0];
/** Of a rule of our table, or of one chain of it, that has a counter, by its text. */
async function counted(rule: RegExp, chain?: string): Promise<number> {
  const what = chain === undefined ? "table inet sallyport" : `chain inet sallyport ${chain}`;
  const line = (await world.sh(`nft list ${what}`)).split("\n").find((one) => rule.test(one));
  return Number(/packets (\d+)/.exec(line ?? "")?.[1] ?? -1);
}

/** A neighbour that the node forwards for asks the client's server; how many of its packets the client sees. */
async function intrude(): Promise<number> {
  await world.sh("ip route replace 100.64.0.0/24 via 10.0.5.1", "neighbour");
  await world.sh("echo 1 > /proc/sys/net/ipv4/conf/lan0/forwarding");
  await world.sh(
    "nft add table ip spy; nft add chain ip spy in '{ type filter hook prerouting priority -300; }'; nft add rule ip spy in ip saddr 10.0.5.2 counter",
    "client",
  );
  try {
    await world.probe("neighbour", "tcp-ask", `${CLIENT}:8080`);
    return Number(/counter packets (\d+)/.exec(await world.sh("nft list table ip spy", "client"))?.[1]);
  } finally {
    await world.sh("nft delete table ip spy", "client");
    await world.sh("echo 0 > /proc/sys/net/ipv4/conf/lan0/forwarding");
  }
}

beforeAll(async () => {
  if (!canBuildLabs) return;
  world = await ExitWorld.open("f");
  await Promise.all([
    world.serve("internet", "udp-echo", "9090"),
    world.serve("internet", "tcp-echo", "8080"),
    world.serve("node", "udp-echo", `${PORT}`),
    world.serve("node", "tcp-echo", "443"),
    world.serve("neighbour", "tcp-echo", "8080"),
    world.serve("client", "tcp-echo", "8080"),
    world.serve("igw", "tcp-echo", "8080"),
  ]);
  await world.forward();
}, 60_000);

afterAll(async () => {
  await world?.close();
});

it("the tunnel's port is answered by the ingress interface", async () => {
  const [seen] = await world.probe("internet", "udp-ask", "7000", `${INGRESS_PUBLIC}:${PORT}`);
  expect(seen).toMatch(/:7000$/);
});

it("a new process's own reply leaves by the ingress for every port of the tunnel and for TCP accepted there", async () => {
  expect(await world.probe("internet", "tcp-ask", `${INGRESS_PUBLIC}:443`)).toEqual([SERVER]);
});

it("exit traffic is seen from the NAT gateway's address, also of a client whose own UDP port is the tunnel's", async () => {
  expect(await askTcp(`${SERVER}:8080`)).toBe(NAT_PUBLIC);
  expect(await askUdp(7001)).toMatch(new RegExp(`^${NAT_PUBLIC}:`));
  expect(await askUdp(PORT)).toMatch(new RegExp(`^${NAT_PUBLIC}:`));
});

it("the tunnel's port stays the tunnel's: a client's own packets from it leave by another", async () => {
  await world.sh(
    "nft add table ip spy; nft add chain ip spy out '{ type filter hook postrouting priority 200; }'; nft add rule ip spy out oifname zzz0 udp sport 41641 counter",
  );
  await askUdp(PORT);
  expect(await world.sh("nft list table ip spy; nft delete table ip spy")).toContain("counter packets 0 ");
});

it("devices reach neither the metadata service nor the machine's own networks, nor the node by those", async () => {
  expect(await askTcp("169.254.169.254:80")).toBe("silence");
  expect(await askTcp("10.0.5.2:8080")).toBe("silence");
  expect(await askTcp("10.0.0.1:8080")).toBe("silence");
  expect(await askTcp("10.0.0.10:443")).toBe("silence");
  expect(await counted(/@never4 counter/)).toBeGreaterThan(0);
  expect(await counted(/@own4 counter/)).toBeGreaterThan(0);
});

it("nobody gets into the tunnel from outside", async () => {
  const dropped = (): Promise<number> => counted(/^\s*counter packets \d+ bytes \d+ drop$/, "homeward");
  const before = await dropped();
  expect(await intrude()).toBe(0);
  expect(await dropped()).toBeGreaterThan(before);
});

it("packets that would leave by another interface than the egress are dropped", async () => {
  await world.sh("ip route add 203.0.113.77/32 via 10.0.0.1 dev aaa0");
  const before = await counted(/^\s*counter packets \d+ bytes \d+ drop$/);
  expect(await askTcp("203.0.113.77:8080")).toBe("silence");
  expect(await counted(/^\s*counter packets \d+ bytes \d+ drop$/)).toBeGreaterThan(before);
  await world.sh("ip route del 203.0.113.77/32");
});

it("what the connection tracking does not know is not let out with the device's own address", async () => {
  // An answer that nobody asked for.
  await world.sh(
    "nft add table ip odd; nft add chain ip odd out '{ type filter hook output priority 0; }'; nft add rule ip odd out icmp type echo-request icmp type set echo-reply",
    "client",
  );
  await world.sh(`ping -c 1 -W 1 ${SERVER} || true; nft delete table ip odd`, "client");
  expect(await counted(/ct state invalid,untracked counter/)).toBeGreaterThan(0);
  expect(await world.sh("nft list table ip nat", "nat")).toContain("counter packets 0 bytes 0 drop");
});

it("a connection's segments fit the tunnel on both sides", async () => {
  const rules = await world.sh("nft list table inet sallyport");
  expect(rules.match(/maxseg size set rt mtu/g)).toHaveLength(2);
});

it("IPv6 is refused at once, so that devices take IPv4", async () => {
  const start = performance.now();
  expect(await world.sh(`ping -6 -c 1 -W 3 ${SERVER_V6} 2>&1 || true`, "client")).toMatch(
    /nreachable|No route/,
  );
  expect(performance.now() - start).toBeLessThan(2_000);
});

describe("what each rule is for", () => {
  /** Takes something away while nobody watches, and lets the watch put it back. */
  async function without(change: string, observe: () => Promise<void>): Promise<void> {
    world.signalForwarding("SIGSTOP");
    try {
      await world.sh(change);
      await observe();
    } finally {
      world.signalForwarding("SIGCONT");
    }
  }
  const direct = async (): Promise<boolean> =>
    (await world.probe("internet", "udp-ask", "7000", `${INGRESS_PUBLIC}:${PORT}`))[0] !== "silence";

  it("without the rule for the tunnel's port it is not answered, until the rule is put back", async () => {
    await without("ip rule del pref 5101", async () => expect(await direct()).toBe(false));
    await world.until("the rule again", async () => (await direct()) || undefined);
  }, 20_000);

  it("without iif lo exit traffic of a client whose port is the tunnel's is lost", async () => {
    await without(
      "ip rule add pref 5101 ipproto udp sport 41641 lookup 51; ip rule del pref 5101 iif lo",
      async () => {
        // The address translation changes the port only after the route is chosen.
        expect(await askUdp(PORT)).toBe("silence");
      },
    );
    await world.until("the rule again", async () => ((await askUdp(PORT)) !== "silence" ? true : undefined));
  }, 20_000);

  it("without the rules for what goes home others get into the tunnel", async () => {
    await without("nft flush chain inet sallyport homeward", async () =>
      expect(await intrude()).toBeGreaterThan(0),
    );
    await world.until("the rules again", async () => ((await intrude()) === 0 ? true : undefined));
  }, 20_000);

  it("without masquerade nothing comes back", async () => {
    await without("nft flush chain inet sallyport postrouting", async () =>
      expect(await askTcp(`${SERVER}:8080`)).toBe("silence"),
    );
    await world.until("the table again", async () =>
      (await askTcp(`${SERVER}:8080`)) === NAT_PUBLIC ? true : undefined,
    );
  }, 20_000);
});

describe("what others do", () => {
  const back = (what: string, ms = 2_000): Promise<unknown> =>
    world.until(
      what,
      async () =>
        (await askTcp(`${SERVER}:8080`)) === NAT_PUBLIC && (await ruleCount()) >= 2 ? true : undefined,
      ms + 2_000,
    );
  const ruleCount = async (): Promise<number> =>
    (await world.sh("ip rule")).split("\n").filter((line) => /^510\d:/.test(line)).length;

  it.each([
    ["ip rule flush; ip rule add pref 32766 lookup main; ip rule add pref 32767 lookup default"],
    ["ip route flush table 51"],
    ["nft flush ruleset"],
    ["nft delete table inet sallyport"],
    ["echo 0 > /proc/sys/net/ipv4/conf/tun0/forwarding"],
    ["sysctl -qw net.ipv4.ip_forward=0"],
  ])(
    "after `%s` everything is back within a second or two",
    async (change) => {
      const whole = await state();
      await world.sh(change);
      await world.until("the same state", async () => ((await state()) === whole ? true : undefined), 2_000);
      await back("carried traffic");
    },
    20_000,
  );

  const state = (): Promise<string> =>
    world.sh(
      "ip rule; ip route show table 51; nft -s list table inet sallyport 2>&1 || true; cat /proc/sys/net/ipv4/conf/*/forwarding",
    );

  it("a firewall that drops forwarded packets is named, with the rule that helps", async () => {
    await world.sh(
      "nft add table ip mine; nft add chain ip mine carry '{ type filter hook forward priority 0; policy drop; }'",
    );
    const [reason = ""] = await world.until("a reason", () =>
      world.reasons().length > 0 ? world.reasons() : undefined,
    );
    expect(reason).toMatch(/^forward-blocked: .*"carry" of the table "ip mine"/);
    expect(await askTcp(`${SERVER}:8080`)).toBe("silence");
    for (const [, rule] of reason.matchAll(/`(nft [^`]*)`/g)) await world.sh(rule ?? "");
    await world.until("no reason", () => (world.reasons().length === 0 ? true : undefined));
    expect(await askTcp(`${SERVER}:8080`)).toBe(NAT_PUBLIC);
    await world.sh("nft delete table ip mine");
  }, 20_000);

  it("when the default route leads elsewhere exit traffic is dropped and a reason says so; then it flows again", async () => {
    await world.sh("ip route replace default via 10.0.0.1 dev aaa0");
    const [reason] = await world.until("a reason", () =>
      world.reasons().length > 0 ? world.reasons() : undefined,
    );
    expect(reason).toMatch(/^routes-lost: Exit traffic would not leave by zzz0/);
    expect(await askTcp(`${SERVER}:8080`)).toBe("silence");
    await world.sh("ip route replace default via 10.0.1.1 dev zzz0");
    await world.until("no reason", () => (world.reasons().length === 0 ? true : undefined));
    expect(await askTcp(`${SERVER}:8080`)).toBe(NAT_PUBLIC);
  }, 20_000);

  it("after kill -9 the next run takes over, and restores what was before the first", async () => {
    await world.killForwarding();
    await world.sh("ip rule add pref 5101 iif lo ipproto udp sport 7777 lookup 51");
    await world.forward();
    expect(await world.sh("ip rule")).not.toContain("7777");
    expect(await askTcp(`${SERVER}:8080`)).toBe(NAT_PUBLIC);
  }, 30_000);
});

it("on stop everything is as it was", async () => {
  await world.stopForwarding();
  expect(await world.sh("ip rule; ip -6 rule")).not.toMatch(/510\d/);
  expect(await world.sh("ip route show table all; ip -6 route show table all")).not.toContain("table 51");
  expect(await world.sh("nft list tables")).not.toContain("sallyport");
  expect(
    await world.sh("cd /proc/sys/net/ipv4/conf; cat zzz0/forwarding tun0/forwarding aaa0/rp_filter"),
  ).toBe("0\n0\n0\n");
}, 20_000);

it("a restore that the kernel refuses is tried again until it holds, and nothing is carried in between", async () => {
  const refusal = join(world.folder, "refuse");
  const refusing = `[ ! -e ${refusal} ] || [ "$1" != -f ] || { echo "Error: Device or resource busy" >&2; exit 1; }`;
  writeFileSync(join(world.folder, "nft"), `#!/bin/sh\n${refusing}\nPATH=/usr/sbin:/sbin exec nft "$@"\n`, {
    mode: 0o755,
  });
  // Without rules of routing, whose loss would be noticed by its own check.
  await world.forward({ mode: "direct", env: { PATH: `${world.folder}:${process.env["PATH"] ?? ""}` } });
  await world.sh(`touch ${refusal}; nft delete table inet sallyport`);
  await world.until("a reason", () => world.reasons().length > 0);
  // It looks again after three seconds.
  await sleep(4_000);
  expect(world.reasons()).toEqual([expect.stringMatching(/^forwarding-failed: .*Device or resource busy/)]);
  expect(world.said("state")).toMatchObject({ open: false, applied: false });
  await world.sh(`rm ${refusal}`);
  await world.until("no reason", () => JSON.stringify(world.said("state")).includes('"applied":true'));
  expect(await world.sh("nft list table inet sallyport")).toContain("masquerade");
  expect(await askTcp(`${SERVER}:8080`)).toBe(NAT_PUBLIC);
  expect(world.reasons()).toEqual([]);
  await world.stopForwarding();
}, 30_000);

it("an instance whose metadata do not answer carries nothing; as soon as they do, it keeps devices out of its networks", async () => {
  const unanswered = { path: "network/interfaces/macs/", times: 1 };
  const started = await world.forward({ mode: "direct", unanswered });
  expect(started.lines).toContain("ready closed");
  expect(world.reasons()).toEqual([expect.stringMatching(/^metadata-missing: .*nobody answers/)]);
  expect(await askTcp(`${SERVER}:8080`)).toBe("silence");
  await world.until("no reason", () => world.reasons().length === 0);
  expect(await world.sh("nft list set inet sallyport own4")).toContain("10.0.0.0/16");
  expect(await askTcp(`${SERVER}:8080`)).toBe(NAT_PUBLIC);
  await world.stopForwarding();
}, 30_000);

it("with snat, IPv6 leaves by the ingress interface's own address, and IPv4 as before", async () => {
  await world.forward({ ipv6: "snat" });
  expect(await askTcp(`[${SERVER_V6}]:8080`)).toBe(INGRESS_V6);
  expect(await askTcp(`${SERVER}:8080`)).toBe(NAT_PUBLIC);
  await world.stopForwarding();
  expect(await world.sh("cat /proc/sys/net/ipv6/conf/all/forwarding")).toBe("0\n");
}, 30_000);

describe("a firewall that drops something else than IPv4 exit traffic is named, too, with the rule that helps", () => {
  it.each([
    [
      { exit: false, advertised: ["10.0.5.0/24"] },
      ["ip", "what goes to the advertised networks by lan0", "10.0.5.2:8080", "10.0.5.1"],
    ],
    [{ ipv6: "snat" as const }, ["ip6", "IPv6 exit traffic", `[${SERVER_V6}]:8080`, INGRESS_V6]],
  ])(
    "%j",
    async (settings, [family = "", what = "", destination = "", seen = ""]) => {
      await world.sh(
        `nft add table ${family} mine; nft add chain ${family} mine carry '{ type filter hook forward priority 0; policy drop; }'`,
      );
      try {
        await world.forward(settings);
        const [reason = "", ...more] = world.reasons();
        expect(reason).toContain(`drops ${what} in the chain "carry" of the table "${family} mine"`);
        expect(more).toEqual([]);
        expect(await askTcp(destination)).toBe("silence");
        for (const [, rule] of reason.matchAll(/`(nft [^`]*)`/g)) await world.sh(rule ?? "");
        await world.until("no reason", () => world.reasons().length === 0);
        expect(await askTcp(destination)).toBe(seen);
      } finally {
        await world.stopForwarding();
        await world.sh(`nft delete table ${family} mine`);
      }
    },
    30_000,
  );
});

it("exit traffic with another address than was promised is dropped; as soon as it bears that one, it flows", async () => {
  const told = {
    egressAddresses: ["192.0.2.99"],
    stun: `${SERVER}:3478`,
    seenPort: `${INGRESS_PUBLIC}:${PORT}`,
  };
  await Promise.all([world.serveStun("internet", 3478), world.forward(told)]);
  const [reason] = await world.until("a reason", () =>
    world.reasons().filter((one) => one.startsWith("egress-wrong"))[0] === undefined
      ? undefined
      : world.reasons(),
  );
  expect(reason).toContain("would be seen from 192.0.2.1, not from 192.0.2.99");
  expect(await askTcp(`${SERVER}:8080`)).toBe("silence");
  expect(world.said("state")).toEqual({ open: false, applied: true, proven: false });

  await world.sh(
    "ip address add 192.0.2.99/24 dev n1; nft flush chain ip nat out; nft add rule ip nat out oif n1 snat to 192.0.2.99",
    "nat",
  );
  await world.until(
    "a proof",
    () => (JSON.stringify(world.said("state")).includes('"proven":true') ? true : undefined),
    15_000,
  );
  expect(await askTcp(`${SERVER}:8080`)).toBe("192.0.2.99");
  expect(world.reasons()).toEqual([]);
  await world.stopForwarding();
  await world.sh("nft flush chain ip nat out; nft add rule ip nat out oif n1 snat to 192.0.2.1", "nat");
}, 60_000);

it("a tunnel that is seen at another address than the ingress interface's is a reason, and stops nothing", async () => {
  await world.forward({ stun: `${SERVER}:3478`, seenPort: `${NAT_PUBLIC}:${PORT}` });
  const [reason] = await world.until("a reason", () =>
    world.reasons().length > 0 ? world.reasons() : undefined,
  );
  expect(reason).toMatch(
    /^ingress-wrong-address: The tunnel is seen at 192.0.2.1:41641, not at 198.51.100.10/,
  );
  expect(await askTcp(`${SERVER}:8080`)).toBe(NAT_PUBLIC);
  await world.stopForwarding();
}, 30_000);

it("the capabilities of the agent's unit are enough for all of it, and its own connections may leave by the ingress", async () => {
  await world.forward({ uid: 990, ingressUid: 990 });
  expect(world.reasons()).toEqual([]);
  expect(await askTcp(`${SERVER}:8080`)).toBe(NAT_PUBLIC);
  expect(await world.sh("ip rule")).toContain("iif lo uidrange 990-990 lookup 51");
  const asAgent = `setpriv --reuid=990 --regid=990 --clear-groups ${process.execPath} ${join(__dirname, "probes.mjs")} tcp-ask ${SERVER}:8080`;
  expect(await world.sh(asAgent)).toBe(`${INGRESS_PUBLIC}\n`);
  await world.stopForwarding();
  expect(await world.sh("ip rule; nft list tables; cat /proc/sys/net/ipv4/conf/zzz0/forwarding")).not.toMatch(
    /510\d|sallyport|^1$/m,
  );
}, 40_000);

withEthtool(
  "interfaces are tuned while it forwards, and as they were afterwards",
  async () => {
    const gro = (): Promise<string> =>
      world.sh("ethtool -k zzz0 | grep rx-udp-gro-forwarding; cat /sys/class/net/tun0/tx_queue_len");
    const before = await gro();
    await world.forward();
    await world.until("the list", () =>
      JSON.stringify(world.said("tuning")).includes("aaa0") ? true : undefined,
    );
    const list = world.said("tuning") as readonly { readonly what: string; readonly is: string }[];
    expect(list.map(({ what, is }) => `${what} ${is}`)).toEqual([
      ...["tun0 txqueuelen 2000", "zzz0 rx-udp-gro-forwarding on", "aaa0 rx-udp-gro-forwarding on"],
    ]);
    expect(await gro()).toMatch(/: on\n2000/);
    await world.stopForwarding();
    expect((await gro()).split("\n")[0]).toBe(before.split("\n")[0]);
  },
  30_000,
);

it("a network that is advertised is reached, by the node's own address, and no other", async () => {
  await world.forward({ advertised: ["10.0.5.0/24"] });
  expect(await askTcp("10.0.5.2:8080")).toBe("10.0.5.1");
  expect(await askTcp("10.0.0.1:8080")).toBe("silence");
  await world.stopForwarding();
}, 30_000);

it("a network that is advertised is reached also behind another router", async () => {
  await world.sh("ip address add 10.9.0.1/32 dev lo", "neighbour");
  await world.sh("ip route add 10.9.0.0/24 via 10.0.5.2 dev lan0");
  await world.forward({ exit: false, advertised: ["10.9.0.0/24"] });
  expect(await askTcp("10.9.0.1:8080")).toBe("10.0.5.1");
  await world.stopForwarding();
}, 30_000);
