import { join } from "node:path";
import { Lab } from "../../lab/lab.ts";
import { requires } from "../skip.ts";
import { bundleLab, canBuildLabs, LAB_NEEDS, type LabBundle } from "./bundle.ts";
import { exitNodeTopology } from "./stack.ts";

const testAsRoot = requires("root", canBuildLabs, LAB_NEEDS);
const probes = join(__dirname, "probes.mjs");
const PORT = 41641;
const TWO_SERVERS = ["198.51.100.10:3478", "198.51.100.20:3478"];
const EXIT_NODE = "198.18.10.10";

let bundle: LabBundle;
let lab: Lab;

beforeAll(async () => {
  if (!canBuildLabs) return;
  bundle = bundleLab();
  lab = await Lab.open(exitNodeTopology({ exitTraffic: "web" }), { self: bundle.self });
  await Promise.all([
    serve("control", "udp-echo", "3478"),
    serve("nyc", "udp-echo", "3478"),
    serve("control", "tcp-echo", "443"),
    serve("control", "tcp-echo", "8443"),
    serve("exit-node", "udp-echo", `${PORT}`),
    serve("exit-node", "udp-echo", "41642"),
    serve("exit-node", "tcp-echo", "443"),
  ]);
}, 30_000);

afterAll(async () => {
  await lab?.close();
  bundle?.remove();
});

testAsRoot("an easy NAT shows the same port to every destination", async () => {
  expect(await probe("laptop", "udp-ask", `${PORT}`, ...TWO_SERVERS)).toEqual([
    `203.0.113.21:${PORT}`,
    `203.0.113.21:${PORT}`,
  ]);
});

testAsRoot("a stranger's knock is not let in by an easy NAT, and doesn't change its port", async () => {
  await probe("exit-node", "udp-ask", `${PORT + 2}`, `203.0.113.21:${PORT + 1}`);
  const seen = await probe("laptop", "udp-ask", `${PORT + 1}`, ...TWO_SERVERS, `${EXIT_NODE}:${PORT}`);
  expect(seen).toEqual(Array.from({ length: 3 }, () => `203.0.113.21:${PORT + 1}`));
  expect(await probe("control", "udp-ask", "5000", `203.0.113.21:${PORT + 1}`)).toEqual(["silence"]);
});

testAsRoot("a hard NAT shows another port to each destination", async () => {
  const seen = await probe("office", "udp-ask", `${PORT}`, ...TWO_SERVERS);
  expect(seen.map((address) => address.split(":")[0])).toEqual(["203.0.113.22", "203.0.113.22"]);
  expect(seen[0]).not.toBe(seen[1]);
});

testAsRoot("where UDP is blocked only TCP 443 passes", async () => {
  expect(await probe("hotel", "udp-ask", `${PORT}`, ...TWO_SERVERS)).toEqual(["silence", "silence"]);
  expect(await probe("hotel", "tcp-ask", "198.51.100.10:443")).toEqual(["203.0.113.23"]);
  expect(await probe("hotel", "tcp-ask", "198.51.100.10:8443")).toEqual(["silence"]);
});

testAsRoot("the internet gateway translates one to one, both ways, and keeps ports", async () => {
  expect(await probe("exit-node", "udp-ask", "5001", ...TWO_SERVERS)).toEqual([
    `${EXIT_NODE}:5001`,
    `${EXIT_NODE}:5001`,
  ]);
  expect(await probe("control", "udp-ask", "5002", `${EXIT_NODE}:${PORT}`)).toEqual(["198.51.100.10:5002"]);
});

testAsRoot("the security group lets in the tunnel's port and nothing else", async () => {
  expect(await probe("office", "udp-ask", "0", `${EXIT_NODE}:${PORT}`)).not.toEqual(["silence"]);
  expect(await probe("office", "udp-ask", "0", `${EXIT_NODE}:41642`)).toEqual(["silence"]);
  expect(await probe("office", "tcp-ask", `${EXIT_NODE}:443`)).toEqual(["silence"]);
});

testAsRoot(
  "with exit traffic limited to the web, the security group lets UDP and TCP 443 out and nothing else",
  async () => {
    expect(await probe("exit-node", "tcp-ask", "198.51.100.10:443")).toEqual([EXIT_NODE]);
    expect(await probe("exit-node", "tcp-ask", "198.51.100.10:8443")).toEqual(["silence"]);
  },
);

testAsRoot("private addresses lead nowhere from outside", async () => {
  expect(await probe("laptop", "udp-ask", "0", `10.80.0.10:${PORT}`)).toEqual(["silence"]);
});

testAsRoot("the relay is 10 ms away each way, the others are not", async () => {
  const relay = await roundTrips("laptop", "198.51.100.20");
  expect(relay).toBeGreaterThan(18);
  expect(relay).toBeLessThan(40);
  expect(await roundTrips("laptop", "198.51.100.10")).toBeLessThan(10);
});

testAsRoot(
  "a lab is built in little time, and two stand side by side",
  async () => {
    const start = performance.now();
    const other = await Lab.open(exitNodeTopology({ openTunnelPort: false }), { self: bundle.self });
    try {
      expect(performance.now() - start).toBeLessThan(5_000);
      const listener = other.start("exit-node", {
        name: "echo",
        command: [process.execPath, probes, "udp-echo", `${PORT}`],
      });
      await listener.readyLine(/^ready$/, 5_000);
      const asked = await other.run("laptop", ask("udp-ask", "0", `${EXIT_NODE}:${PORT}`), 10_000);
      expect(asked.lines).toEqual(["silence"]);
      expect(listener.lines).toEqual(["ready"]);
    } finally {
      await other.close();
    }
  },
  15_000,
);

async function serve(namespace: string, ...args: string[]): Promise<void> {
  const server = lab.start(namespace, { name: args.join("-"), command: [process.execPath, probes, ...args] });
  await server.readyLine(/^ready$/, 10_000);
}

async function probe(namespace: string, ...args: string[]): Promise<readonly string[]> {
  return (await lab.run(namespace, ask(...args), 10_000)).lines;
}

function ask(...args: string[]): { readonly name: string; readonly command: readonly string[] } {
  return { name: "ask", command: [process.execPath, probes, ...args] };
}

/** The smallest of several, in ms: the machine may be busy. */
async function roundTrips(namespace: string, address: string): Promise<number> {
  const command = [...bundle.self, "icmp", address, "--count", "5"];
  const { lines } = await lab.run(namespace, { name: "icmp", command }, 15_000);
  return Math.min(...lines.flatMap((line) => / in ([\d.]+) ms/.exec(line)?.[1] ?? []).map(Number));
}
