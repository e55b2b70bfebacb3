/** A laptop that uses an exit node: what leaves it, what doesn't, and what it still reaches. */
import { ClientWorld, EXITS, forwardV6, type Packet, PRINTER, WEB, WEB_V6 } from "./client-world.ts";
import { canBuildLabs, LAB_NEEDS } from "./bundle.ts";
import { requires } from "../skip.ts";

const inNamespaces = requires("root", canBuildLabs, LAB_NEEDS);
const TIMEOUT_MS = 60_000;

let world: ClientWorld;

beforeAll(async () => {
  if (!canBuildLabs) return;
  world = await ClientWorld.open();
  await forwardV6(world);
  // As strict as a distribution may set it.
  await world.on("laptop", [
    "sh",
    "-c",
    "for f in all eth0; do echo 1 > /proc/sys/net/ipv4/conf/$f/rp_filter; done",
  ]);
}, TIMEOUT_MS);
afterAll(() => world?.close(), TIMEOUT_MS);

/** What is not the tunnel's: all but UDP from its port, connections to relay and control server, and their names. */
const strays = (packets: readonly Packet[]): readonly Packet[] =>
  packets.filter(
    (packet) =>
      !/ IP 192\.168\.50\.2\.41641 > [\d.]+: UDP/.test(packet) &&
      !/ IP 192\.168\.50\.2\.\d+ > 198\.18\.1\.10\.(443|8443): Flags/.test(packet) &&
      !/ IP 192\.168\.50\.2\.\d+ > 192\.168\.50\.1\.53: .*\b(A|AAAA)\? control\.test\./.test(packet) &&
      !/ICMP6, neighbor/.test(packet),
  );

inNamespaces(
  "without an exit node the laptop goes out by its own network, with IPv6",
  async () => {
    expect(await world.visit()).toBe("198.18.2.1");
    expect(await world.visit(`http://[${WEB_V6}]/`)).toBe("2001:db8:50::2");
    expect(await world.lookUp("web.test")).toBe(WEB);
  },
  TIMEOUT_MS,
);

inNamespaces(
  "a laptop that offers nothing forwards nothing, also once it knows where it is seen",
  async () => {
    await world.until("its public address", async () =>
      JSON.stringify(await world.status()).includes("198.18.2.1:"),
    );
    await world.visit();
    expect((await world.on("laptop", ["nft", "list", "tables"])).lines).toEqual([]);
    expect((await world.on("laptop", ["cat", "/proc/sys/net/ipv4/ip_forward"])).lines).toEqual(["0"]);
  },
  TIMEOUT_MS,
);

inNamespaces(
  "with one everything leaves by it, and nothing else leaves the laptop",
  async () => {
    const packets = await world.capture(async () => {
      const { code, lines } = await world.sallyport("set", "--exit-node", "exit");
      expect([code, lines]).toEqual([0, []]);
      await world.until("the exit", async () => (await world.visit()) === EXITS.exit);
      expect(await world.lookUp("web.test")).toBe(WEB);
      expect(await world.connects(PRINTER, 80)).not.toBe("connected");
      expect(await world.connects("198.18.1.50", 80, ', localAddress: "192.168.50.2"')).not.toBe("connected");
      expect(await world.visit(`http://[${WEB_V6}]/`)).toContain("failed");
    });
    expect(packets.length).toBeGreaterThan(5);
    expect(strays(packets)).toEqual([]);
  },
  TIMEOUT_MS,
);

inNamespaces(
  "names are asked for through the tunnel: none reaches the DNS server at home, with the local network allowed or not",
  async () => {
    const atHome = world.askedAtHome.length;
    const inPublic = world.askedInPublic.length;
    expect(await world.lookUp("web.test")).toBe(WEB);
    await set("--exit-node-allow-lan-access");
    expect(await world.connects(PRINTER, 80)).toBe("connected");
    const packets = await world.capture(async () => {
      expect(await world.lookUp("web.test")).toBe(WEB);
    });
    expect(strays(packets)).toEqual([]);
    await set("--no-exit-node-allow-lan-access");
    expect(await world.connects(PRINTER, 80)).not.toBe("connected");
    expect(world.askedInPublic.length).toBeGreaterThan(inPublic);
    const names = world.askedAtHome.slice(atHome);
    expect(names.filter((line) => line !== "asked control.test")).toEqual([]);
  },
  TIMEOUT_MS,
);

inNamespaces(
  "while the exit node is unreachable nothing gets out, and when it is back everything does",
  async () => {
    const packets = await world.capture(async () => {
      await world.cut("exit");
      expect(await world.connects(WEB, 80)).not.toBe("connected");
      expect(await world.connects(WEB_V6, 80)).not.toBe("connected");
      expect(await world.connects(WEB, 80, ', localAddress: "192.168.50.2"')).not.toBe("connected");
      await world.on("laptop", ["ping", "-c", "1", "-W", "1", "-I", "eth0", WEB]);
      await world.on("laptop", ["ping", "-c", "1", "-W", "1", "-b", "192.168.50.255"]);
      await world.on("laptop", ["ping", "-c", "1", "-W", "1", "-I", "eth0", "224.0.0.251"]);
    });
    expect(strays(packets)).toEqual([]);
    await world.restore();
    await world.until("the exit", async () => (await world.visit()) === EXITS.exit);
  },
  TIMEOUT_MS,
);

inNamespaces(
  "rules, routes and the table that others remove are put back",
  async () => {
    const packets = await world.capture(async () => {
      for (const command of [
        ["ip", "rule", "del", "pref", "5270"],
        ["ip", "-6", "rule", "del", "pref", "5270"],
        ["ip", "route", "flush", "table", "52"],
        ["nft", "flush", "ruleset"],
      ]) {
        expect((await world.on("laptop", command)).code).toBe(0);
        await world.until("the exit", async () => (await world.visit()) === EXITS.exit, 5000);
      }
      await world.until("the table", async () =>
        (await world.on("laptop", ["nft", "list", "tables"])).lines.join().includes("sallyport-client"),
      );
    });
    expect(strays(packets)).toEqual([]);
  },
  TIMEOUT_MS,
);

inNamespaces(
  "after kill -9 nothing gets out; the next start goes on, and `down` restores everything",
  async () => {
    const packets = await world.capture(async () => {
      await world.stopLaptop("SIGKILL");
      expect(await world.connects(WEB, 80)).not.toBe("connected");
      expect(await world.connects(WEB_V6, 80)).not.toBe("connected");
      await world.startLaptop();
      await world.until("the exit", async () => (await world.visit()) === EXITS.exit);
    });
    expect(strays(packets)).toEqual([]);
    await world.stopLaptop("SIGKILL");
    await world.startLaptop();
    expect((await world.sallyport("down")).code).toBe(0);
    expect(await world.visit()).toBe("198.18.2.1");
    expect(await world.connects(WEB_V6, 80)).toBe("connected");
    expect(await world.ip("rule")).not.toMatch(/52\d\d:/);
    expect(await world.ip("-6", "rule")).not.toMatch(/52\d\d:/);
    expect((await world.on("laptop", ["nft", "list", "tables"])).lines.join()).not.toContain("sallyport");
    expect((await world.on("laptop", ["ip", "route", "show", "table", "52"])).lines).toEqual([]);
    expect((await world.sallyport("up")).code).toBe(0);
    await world.until("the exit", async () => (await world.visit()) === EXITS.exit);
  },
  TIMEOUT_MS,
);

inNamespaces(
  "status and exit-node list show it; whom nobody knows is refused and changes nothing",
  async () => {
    const status = await world.status();
    expect(status["ExitNodeStatus"]).toMatchObject({ Online: true });
    const peers = Object.values(status.Peer ?? {});
    expect(
      peers.map(({ HostName, ExitNode, ExitNodeOption }) => [HostName, ExitNode, ExitNodeOption]),
    ).toEqual(
      expect.arrayContaining([
        ["exit", true, true],
        ["spare", false, true],
      ]),
    );
    expect((await world.sallyport("status")).lines.join("\n")).toMatch(/ exit .*; exit node; direct /);
    expect((await world.sallyport("exit-node", "list")).lines.join("\n")).toMatch(/exit\.\S+ .*selected/);
    const refused = await world.sallyport("set", "--exit-node", "nobody");
    expect(refused).toMatchObject({
      code: 1,
      lines: ['invalid value "nobody" for --exit-node; must be IP or peer hostname'],
    });
    expect(await world.visit()).toBe(EXITS.exit);
  },
  TIMEOUT_MS,
);

inNamespaces(
  "a network that a peer offers is reached through it once it is approved and asked for",
  async () => {
    await world.addNetwork("spare", "10.77.0.1");
    expect((await world.sallyportOn("spare", "set", "--advertise-routes", "10.77.0.0/24")).code).toBe(0);
    await set("--accept-routes");
    const listed = async (): Promise<string> =>
      (await world.sallyportOn("control", "control", "routes", "list")).lines.join("\n");
    await world.until("the offer", async () =>
      /spare.* 10\.77\.0\.0\/24 +waits for approval/.test(await listed()),
    );
    expect(await world.visit("http://10.77.0.1/")).toContain("failed");
    const approved = await world.sallyportOn(
      "control",
      "control",
      "routes",
      "approve",
      "spare",
      "10.77.0.0/24",
    );
    expect([approved.code, approved.lines]).toEqual([0, []]);
    expect(await listed()).toMatch(/10\.77\.0\.0\/24 +approved/);
    await world.until("the network", async () =>
      (await world.visit("http://10.77.0.1/")).startsWith("100.64."),
    );
    expect(await world.visit()).toBe(EXITS.exit);
    await set("--no-accept-routes");
    expect(await world.visit("http://10.77.0.1/")).toContain("failed");
  },
  TIMEOUT_MS,
);

inNamespaces(
  "an exit node that starts anew where the kernel forwards anyway carries nothing before it does so rightly",
  async () => {
    await world.stopExit("exit");
    world.forgetExit("exit");
    // As Docker has it; then the kernel notes what a flow was given when it began, and stays with that.
    await world.on("exit", ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
    const ofOthers =
      "add table ip others; add chain ip others out { type nat hook postrouting priority 100; }";
    await world.on("exit", ["nft", `flush ruleset; ${ofOthers}`]);
    const ping = world.startPing(WEB);
    await world.startExit("exit", world.slowly("nft"));
    await ping.readyLine(/bytes from/, 30_000);
    await ping.stop();
  },
  TIMEOUT_MS,
);

inNamespaces(
  "auto moves to the other one within seconds when the one in use is gone",
  async () => {
    await set("--exit-node", "auto");
    await world.until("an exit", async () => Object.values<string>(EXITS).includes(await world.visit()));
    const used = (await world.visit()) === EXITS.exit ? "exit" : "spare";
    const other = used === "exit" ? "spare" : "exit";
    await world.cut(used);
    await world.stopExit(used);
    const took = await world.until("the other", async () => (await world.visit()) === EXITS[other]);
    process.stdout.write(`auto: the other exit node after ${Math.round(took / 100) / 10} s\n`);
    expect(took).toBeLessThan(15_000);
    await set("--exit-node", "");
    expect(await world.visit()).toBe("198.18.2.1");
  },
  TIMEOUT_MS,
);

async function set(...flags: readonly string[]): Promise<void> {
  const { code, lines } = await world.sallyport("set", ...flags);
  expect([code, lines]).toEqual([0, []]);
}
