import type { CloudInstance } from "../../lab/cloud-model.ts";
import { drawTopology } from "../../lab/drawing.ts";
import { expectPath } from "../../lab/expectation.ts";
import { planTopology, type Topology } from "../../lab/topology.ts";
import { exitNodeCloud } from "./stack.ts";

const plan = (config: Readonly<Record<string, unknown>> = {}): Topology =>
  planTopology(exitNodeCloud(config), { exitNodeName: "exit-node" });
const open = plan();
const closed = plan({ openTunnelPort: false });

test("every end of a link is in a namespace of the plan, under a name that Linux takes and that is used once", () => {
  const names = new Set(open.namespaces.map(({ name }) => name));
  const ends = open.links.flatMap((link) => link.ends);
  for (const { namespace, device } of ends) {
    expect(names).toContain(namespace);
    expect(device.length).toBeLessThanOrEqual(15);
  }
  expect(new Set(ends.map(({ namespace, device }) => `${namespace}/${device}`)).size).toBe(ends.length);
});

test("only the relay's link is slow", () => {
  const slow = open.links.filter(({ delayMs }) => delayMs > 0);
  expect(slow).toEqual([
    {
      ends: [expect.objectContaining({ namespace: "internet" }), { namespace: "nyc", device: "eth0" }],
      delayMs: 10,
    },
  ]);
});

test("the internet knows public addresses and no private ones", () => {
  const routes = namespace(open, "internet").commands.filter((line) => line.startsWith("route add"));
  expect(routes.filter((line) => / (10|172\.(1[6-9]|2\d|3[01])|192\.168)\./.test(line))).toEqual([]);
  expect(routes).toContain("route add 198.18.10.10/32 dev to-igw");
});

test("the gateway translates one to one and lets the stack's port in", () => {
  const { rules } = namespace(open, "igw");
  expect(rules).toContain("ip daddr 198.18.10.10 dnat ip to 10.80.0.10");
  expect(rules).toContain('ip saddr 10.80.0.10 oifname "internet" snat ip to 198.18.10.10');
  expect(rules).toContain("meta nfproto ipv4 udp dport 41641 return");
  expect(rules).toContain('iifname "eni0" ip saddr != 10.80.0.10 drop');
  expect(namespace(closed, "igw").rules).not.toContain("dport 41641");
});

test("hosts don't forward, routers do", () => {
  const forwarders = open.namespaces.filter(({ forwards }) => forwards).map(({ name }) => name);
  expect(forwarders.toSorted()).toEqual(["hotel-nat", "igw", "internet", "laptop-nat", "office-nat"]);
});

test("which connections can be direct follows from the networks", () => {
  expect(paths(open)).toEqual({ laptop: "direct", office: "direct", hotel: "relay" });
  expect(paths(closed)).toMatchObject({ office: "relay", hotel: "relay" });
});

test("an instance without a way out is refused, and so are two", () => {
  const cloud = exitNodeCloud();
  const refused = (change: (one: CloudInstance) => readonly CloudInstance[], why: RegExp): void => {
    const changed = { ...cloud, instances: cloud.instances.flatMap(change) };
    expect(() => planTopology(changed, { exitNodeName: "exit-node" })).toThrow(why);
  };
  refused((one) => [{ ...one, publicAddress: false }], /has no public address/);
  refused(
    (one) => [{ ...one, subnet: { ...one.subnet, internet: false } }],
    /has no route to an internet gateway/,
  );
  refused((one) => [one, one], /one instance, not 2/);
});

test("the drawing shows every part and whether the port is open", () => {
  const text = drawTopology(open, 41641).join("\n");
  for (const { namespace: name } of open.cast.clients) expect(text).toContain(name);
  expect(text).toContain("[udp/41641 open]");
  expect(drawTopology(closed, 41641).join("\n")).toContain("[udp/41641 closed]");
});

test.each(["laptop", "internet", "Control"])("an exit node called %s is refused", (exitNodeName) => {
  expect(() => planTopology(exitNodeCloud(), { exitNodeName })).toThrow(/can't be called/);
});

function paths({ cast }: Topology): Record<string, string> {
  return Object.fromEntries(
    cast.clients.map((client) => [client.namespace, expectPath(cast.exitNode, 41641, client).path]),
  );
}

function namespace(topology: Topology, name: string): Topology["namespaces"][number] {
  const found = topology.namespaces.find((one) => one.name === name);
  if (found === undefined) throw new Error(`no namespace ${name}`);
  return found;
}
