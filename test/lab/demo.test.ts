import { spawn } from "node:child_process";
import { LAB_PROGRAM, testWithLab } from "./bundle.ts";

const testAsRoot = testWithLab();
/** Relayed first, then direct. */
const DIRECT =
  /pong from exit-node \(100\.\d+\.\d+\.\d+\) via DERP\(\S+\) in \d+ms\n {2}pong from exit-node .* via 198\.18\.10\.\d+:41641 in \d+ms/;
const CLIENTS = ["laptop", "office", "hotel"];

testAsRoot(
  "the stack's exit node is reached by the relay first and then directly; with its port closed it stays relayed",
  async () => {
    const [open, closed] = await Promise.all([demo(), demo("--closed-port")]);

    expect(open).toMatchObject({ code: 0, stderr: "" });
    expect(open.chapter("laptop")).toMatch(DIRECT);
    expect(open.chapter("laptop")).toMatch(/active; exit node; direct 198\.18\.10\.\d+:41641/);
    expect(open.chapter("office")).toMatch(DIRECT);
    expect(open.chapter("hotel").match(/pong from exit-node .* via DERP\(\S+\) in \d+ms/g)).toHaveLength(10);
    expect(open.chapter("hotel")).toContain("direct connection not established");
    expect(open.chapter("hotel")).toMatch(/active; exit node; relay "/);

    expect(closed).toMatchObject({ code: 0, stderr: "" });
    for (const client of CLIENTS) {
      expect(open.chapter(client)).toMatch(/echo from 100\.\d+\.\d+\.\d+ in/);
      expect(open.chapter(client)).toMatch(/HTTP 200 in \d+ ms: hello 100\./);
      expect(closed.chapter(client)).not.toMatch(/198\.18\.10\.\d+:41641/);
      expect(closed.chapter(client)).toMatch(/active; exit node; relay "/);
      expect(closed.chapter(client)).toMatch(/HTTP 200/);
    }
    for (const told of [open, closed]) {
      const seen = told
        .chapter("What the internet sees")
        .match(/198\.18\.10\.\d+ +the NAT gateway's address/g);
      expect(seen).toHaveLength(CLIENTS.length);
    }
  },
  240_000,
);

test("without namespaces the same story plays on loopback sockets, and says so", async () => {
  const told = await demo("--loopback");
  expect(told).toMatchObject({ code: 0, stderr: "" });
  expect(told.chapter("No namespaces here")).toContain("their NATs are simulated");
  for (const client of ["laptop", "office"]) {
    expect(told.chapter(client)).toMatch(
      /via DERP\(nyc\) in \S+\n {2}pong from exit-node .* via 127\.0\.0\.1:\d+ in/,
    );
    expect(told.chapter(client)).toMatch(/active; offers exit node; direct 127\.0\.0\.1:\d+/);
  }
  expect(told.chapter("hotel")).toMatch(/active; offers exit node; relay "nyc"/);
}, 120_000);

interface Told {
  readonly code: number | null;
  readonly stderr: string;
  /** What was told under a heading, such as a client's name. */
  readonly chapter: (heading: string) => string;
}

function demo(...flags: readonly string[]): Promise<Told> {
  const child = spawn(process.execPath, [LAB_PROGRAM, "demo", ...flags]);
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (text) => (stdout += String(text)));
  child.stderr.on("data", (text) => (stderr += String(text)));
  const chapter = (heading: string): string =>
    stdout.split("\n\n").find((part) => part.startsWith(heading)) ?? `nothing of ${heading} in:\n${stdout}`;
  return new Promise((resolve) => child.on("close", (code) => resolve({ code, stderr, chapter })));
}
