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
