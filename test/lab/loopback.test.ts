import { IpPort } from "../../agent/src/base/address.ts";
import { LoopbackNat, type NatBehaviour } from "../../lab/loopback-nat.ts";
import { describeLoopback, openLoopbackInternet, planLoopback } from "../../lab/loopback.ts";
import { exitNodeTopology } from "./stack.ts";

const OPEN: NatBehaviour = {
  mapping: "endpoint-independent",
  filtering: "endpoint-independent",
  blocked: false,
};
const EASY: NatBehaviour = { ...OPEN, filtering: "address-and-port-dependent" };
const HARD: NatBehaviour = { ...EASY, mapping: "address-and-port-dependent" };
const BLOCKED: NatBehaviour = { ...EASY, blocked: true };

const opened: Host[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map(({ nat }) => nat.close()));
});

test("an open port hears everybody, and they hear its answer", async () => {
  const [server, client] = [await host(OPEN), await host(EASY)];
  client.say(server.address, "hello");
  const [from] = await server.hears("hello");
  server.say(from, "hi");
  await client.hears("hi");
});

test("an easy NAT shows one port, and lets in only those who were sent to", async () => {
  const [client, one, other, stranger] = [
    await host(EASY),
    await host(OPEN),
    await host(OPEN),
    await host(OPEN),
  ];
  client.say(one.address, "1");
  client.say(other.address, "2");
  const [first] = await one.hears("1");
  expect((await other.hears("2"))[0].text).toBe(first.text);
  stranger.say(first, "psst");
  one.say(first, "welcome");
  await client.hears("welcome");
  expect(client.heard).not.toContain("psst");
});

test("a hard NAT shows another port to each destination, which hears no one else", async () => {
  const [client, one, other] = [await host(HARD), await host(OPEN), await host(OPEN)];
  client.say(one.address, "1");
  client.say(other.address, "2");
  const [[first], [second]] = [await one.hears("1"), await other.hears("2")];
  expect(first.text).not.toBe(second.text);
  other.say(first, "by the wrong door");
  other.say(second, "by the right door");
  await client.hears("by the right door");
  expect(client.heard).not.toContain("by the wrong door");
  expect(client.nat.outsidePorts).toHaveLength(3);
});

test("two easy NATs open to each other once both have sent; an easy and a hard one don't", async () => {
  const [one, other, hard] = [await host(EASY), await host(EASY), await host(HARD)];
  one.say(other.address, "knock");
  await settle();
  other.say(one.address, "knock back");
  await one.hears("knock back");
  one.say(other.address, "through");
  await other.hears("through");
  one.say(hard.address, "to its first port");
  hard.say(one.address, "from another port");
  await settle();
  expect(one.heard).not.toContain("from another port");
  expect(hard.heard).toEqual([]);
});

test("where UDP is blocked nothing passes", async () => {
  const [client, server] = [await host(BLOCKED), await host(OPEN)];
  client.say(server.address, "hello");
  server.say(client.address, "hello");
  await settle();
  expect([...client.heard, ...server.heard]).toEqual([]);
});

test("addresses outside the loopback interface lead nowhere, and the sender is told", async () => {
  const { nat, say } = await host(EASY);
  const reports: string[] = [];
  nat.onError((to, code) => reports.push(`${to.text} ${code}`));
  say(IpPort.parse("192.168.1.10:41641"), "hello");
  expect(reports).toEqual(["192.168.1.10:41641 ENETUNREACH"]);
});

test("the stack's networks become NATs: a closed port filters", async () => {
  const plan = (config: object): ReadonlyMap<string, NatBehaviour> =>
    planLoopback(exitNodeTopology({ ...config }), 41641);
  expect(plan({})).toEqual(
    new Map([
      ["exit-node", OPEN],
      ["laptop", EASY],
      ["office", HARD],
      ["hotel", BLOCKED],
    ]),
  );
  expect(plan({ openTunnelPort: false }).get("exit-node")).toMatchObject({ blocked: true });
  const internet = await openLoopbackInternet(exitNodeTopology(), 41641);
  expect([...internet.sockets.keys()]).toEqual(["exit-node", "laptop", "office", "hotel"]);
  await internet.close();
  expect(describeLoopback("network namespaces need root")).toMatch(
    /^No namespaces here \(network namespaces need root\)/,
  );
});

interface Host {
  readonly nat: LoopbackNat;
  readonly address: IpPort;
  readonly heard: readonly string[];
  readonly say: (to: IpPort, text: string) => void;
  /** Waits for a text; tells where it came from. */
  readonly hears: (text: string) => Promise<[IpPort]>;
}

async function host(behaviour: NatBehaviour): Promise<Host> {
  const nat = await LoopbackNat.open(behaviour);
  const heard: string[] = [];
  const waiting = new Map<string, (from: IpPort) => void>();
  const sources = new Map<string, IpPort>();
  nat.onDatagram((from, payload) => {
    const text = new TextDecoder().decode(payload);
    heard.push(text);
    sources.set(text, from);
    waiting.get(text)?.(from);
  });
  const made: Host = {
    nat,
    address: IpPort.parse(`127.0.0.1:${nat.localPort}`),
    heard,
    say: (to, text) => nat.send(to, new TextEncoder().encode(text)),
    hears: async (text) => {
      const known = sources.get(text);
      return [known ?? (await new Promise<IpPort>((resolve) => waiting.set(text, resolve)))];
    },
  };
  opened.push(made);
  return made;
}

/** Longer than a datagram takes over the loopback interface; only for what must not arrive. */
const settle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 30));
