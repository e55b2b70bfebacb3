import { spawn } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildSync } from "esbuild";
import { requires } from "../skip.ts";
import { bundleLab, canBuildLabs, LAB_NEEDS, type LabBundle } from "./bundle.ts";
import { synthesize } from "./stack.ts";

const testAsRoot = requires("root", canBuildLabs, LAB_NEEDS);
const DIRECT =
  /pong from exit-node \(100\.\d+\.\d+\.\d+\) via DERP\(nyc\) in \d+ms\n {2}pong from exit-node .* via 198\.18\.10\.10:41641 in \d+ms/;

let bundle: LabBundle;
beforeAll(() => {
  bundle = bundleLab();
  bundleAgent(join(bundle.folder, "agent"));
});
afterAll(() => bundle.remove());

testAsRoot(
  "the stack's exit node is reached by the relay first and then directly; with its port closed it stays relayed",
  async () => {
    const [open, closed] = await Promise.all([demo("open", {}), demo("closed", { openTunnelPort: false })]);

    expect(open).toMatchObject({ code: 0, stderr: "" });
    expect(open.chapter("laptop")).toMatch(DIRECT);
    expect(open.chapter("laptop")).toMatch(/active; offers exit node; direct 198\.18\.10\.10:41641/);
    expect(open.chapter("office")).toMatch(DIRECT);
    expect(open.chapter("hotel").match(/pong from exit-node .* via DERP\(nyc\) in \d+ms/g)).toHaveLength(10);
    expect(open.chapter("hotel")).toContain("direct connection not established");
    expect(open.chapter("hotel")).toMatch(/active; offers exit node; relay "nyc"/);

    expect(closed).toMatchObject({ code: 0, stderr: "" });
    for (const client of ["laptop", "office", "hotel"]) {
      expect(open.chapter(client)).toMatch(/echo from 100\.\d+\.\d+\.\d+ in/);
      expect(open.chapter(client)).toMatch(/HTTP 200 in \d+ ms: hello 100\./);
      expect(closed.chapter(client)).not.toContain("198.18.10.10:41641");
      expect(closed.chapter(client)).toMatch(/active; offers exit node; relay "nyc"/);
      expect(closed.chapter(client)).toMatch(/HTTP 200/);
    }
  },
  90_000,
);

test("without namespaces the same story plays on loopback sockets, and says so", async () => {
  const told = await demo("loopback", {}, ["--loopback"]);
  expect(told).toMatchObject({ code: 0, stderr: "" });
  expect(told.chapter("No namespaces here")).toContain("their NATs are simulated");
  for (const client of ["laptop", "office"]) {
    expect(told.chapter(client)).toMatch(
      /via DERP\(nyc\) in \S+\n {2}pong from exit-node .* via 127\.0\.0\.1:\d+ in/,
    );
    expect(told.chapter(client)).toMatch(/active; offers exit node; direct 127\.0\.0\.1:\d+/);
  }
  expect(told.chapter("hotel")).toMatch(/active; offers exit node; relay "nyc"/);
}, 60_000);

interface Told {
  readonly code: number | null;
  readonly stderr: string;
  /** What was told under a heading, such as a client's name. */
  readonly chapter: (heading: string) => string;
}

function demo(
  name: string,
  config: Readonly<Record<string, unknown>>,
  flags: readonly string[] = [],
): Promise<Told> {
  const stack = join(bundle.folder, `${name}.json`);
  writeFileSync(stack, JSON.stringify(synthesize(config)));
  const [command = "", ...args] = bundle.self;
  const child = spawn(command, [
    ...args,
    "demo",
    "--stack",
    stack,
    "--agent",
    join(bundle.folder, "agent"),
    ...flags,
  ]);
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (text) => (stdout += String(text)));
  child.stderr.on("data", (text) => (stderr += String(text)));
  const chapter = (heading: string): string =>
    stdout.split("\n\n").find((part) => part.startsWith(heading)) ?? `nothing of ${heading} in:\n${stdout}`;
  return new Promise((resolve) => child.on("close", (code) => resolve({ code, stderr, chapter })));
}

/** As bin/build.mjs makes it, into a folder of the test's own. */
function bundleAgent(folder: string): void {
  mkdirSync(folder);
  buildSync({
    entryPoints: [join(__dirname, "../../agent/src/main.ts")],
    outfile: join(folder, "sallyport.mjs"),
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20.19",
    banner: {
      js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
    },
    logLevel: "error",
  });
  if (existsSync(join(bundle.folder, "koffi.node"))) {
    copyFileSync(join(bundle.folder, "koffi.node"), join(folder, "koffi.node"));
  }
}
