import fc from "fast-check";
import { Ip } from "../../agent/src/base/address.ts";
import { millis, seconds } from "../../agent/src/base/time.ts";
import type { Host } from "../sim/internet.ts";
import { easyNat, hardNat, type NatBehaviour } from "../sim/nat.ts";
import { type HostOptions, World } from "../sim/world.ts";

const CLIENTS: readonly HostOptions[] = [{ nat: easyNat }, { nat: hardNat }, { udpBlocked: true }];

function worldOf(exit: HostOptions, clients: readonly HostOptions[], seed = 1) {
  const world = new World(seed);
  const node = world.addHost("exit", exit);
  const hosts = clients.map((options, i) => world.addHost(`client${i}`, options));
  world.join();
  return { world, node, hosts };
}

/** Everybody talks to the node, which answers. */
function talk(world: World, node: Host, hosts: readonly Host[], length: number): void {
  for (let at = 0; at < length; at += 500) {
    for (const host of hosts) {
      world.send(host, node, at);
      world.send(node, host, at);
    }
    world.run(millis(500));
  }
}

const unreachedAt = (host: Host, mapped: readonly Ip[] = []): string | undefined =>
  host.node.unreachedAt(mapped)?.text;

test("a node whose port is closed learns it from clients of two networks, within half a minute", () => {
  const { world, node, hosts } = worldOf({ firewall: "closed" }, CLIENTS);
  talk(world, node, hosts, seconds(30));
  for (const host of hosts) expect(world.pathOf(host, node)).toBe("relay");
  expect(unreachedAt(node)).toBe("203.0.113.1:41641");
});

test("once the port is opened, that is over with the first datagram", () => {
  const { world, node, hosts } = worldOf({ firewall: "closed" }, CLIENTS);
  talk(world, node, hosts, seconds(30));
  node.firewall = undefined;
  talk(world, node, hosts, seconds(8));
  expect(unreachedAt(node)).toBeUndefined();
  expect(hosts.map((host) => world.pathOf(host, node))).toEqual(["direct", "direct", "relay"]);
});

test("a firewall that lets answers in is reached by who can be asked first: nothing is said", () => {
  const { world, node, hosts } = worldOf({ firewall: "answers" }, CLIENTS);
  talk(world, node, hosts, seconds(60));
  expect(hosts.map((host) => world.pathOf(host, node))).toEqual(["direct", "relay", "relay"]);
  expect(unreachedAt(node)).toBeUndefined();
});

test("nobody expects to reach a node behind a NAT, unless the cloud maps the address to it or the operator tells one", () => {
  const clients = [{ nat: hardNat }, { nat: hardNat }];
  const { world, node, hosts } = worldOf({ nat: easyNat }, clients);
  talk(world, node, hosts, seconds(60));
  expect(unreachedAt(node)).toBeUndefined();
  // It gives out another port than the node's own, so it is no mapping of a cloud's.
  expect(unreachedAt(node, [Ip.parse("203.0.113.1")])).toBeUndefined();
});

const nat: fc.Arbitrary<NatBehaviour | undefined> = fc.option(
  fc.record<NatBehaviour>({
    mapping: fc.constantFrom("endpoint-independent", "endpoint-dependent"),
    filtering: fc.constantFrom("open", "address", "address-and-port"),
    expiry: fc.constantFrom(seconds(30), seconds(120)),
  }),
  { nil: undefined },
);
const client = fc.record({ nat, udpBlocked: fc.boolean(), latency: fc.integer({ min: 1, max: 80 }) });
const options = ({ nat: behaviour, ...rest }: { nat: NatBehaviour | undefined }): HostOptions =>
  behaviour === undefined ? rest : { ...rest, nat: behaviour };

test("whatever the clients are, and however much is lost, an open port is never called closed", () => {
  fc.assert(
    fc.property(
      fc.array(client, { minLength: 1, maxLength: 3 }),
      fc.constantFrom(0, 0.05, 0.3),
      fc.integer({ min: 1, max: 1_000_000 }),
      (clients, loss, seed) => {
        const { world, node, hosts } = worldOf({}, clients.map(options), seed);
        world.net.loss = loss;
        talk(world, node, hosts, seconds(25));
        expect(unreachedAt(node)).toBeUndefined();
      },
    ),
    { numRuns: 10 },
  );
});
