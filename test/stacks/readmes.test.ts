import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawnSync } from "node:child_process";
import { PRICES_OF } from "../../stacks/prices.ts";
import { estimate } from "../../stacks/estimate.ts";
import { type Run, runApp } from "./app.ts";

const root = join(__dirname, "../..");
const examples = join(root, "examples");
/** Those that make stacks. */
const names = readdirSync(examples).filter((name) => existsSync(join(examples, name, "cdktf.json")));

const folder = mkdtempSync(join(tmpdir(), "sallyport-readme-"));
afterAll(() => rmSync(folder, { recursive: true }));

const runs = new Map<string, Run>();
function runOf(name: string): Run {
  const into = join(folder, name);
  mkdirSync(into, { recursive: true });
  const run = runs.get(name) ?? runApp(`examples/${name}/main.ts`, into);
  runs.set(name, run);
  return run;
}

const readme = (name: string): string => readFileSync(join(examples, name, "README.md"), "utf8");

/** The lines of its ```sh blocks, without what is said about them. */
function commandsOf(name: string): readonly string[] {
  const blocks = [...readme(name).matchAll(/```sh\n([^`]*)```/g)].map(([, text = ""]) => text);
  return blocks
    .flatMap((text) => text.split("\n").map((line) => line.replace(/\s+#.*$/, "").trim()))
    .filter(Boolean);
}

test.each(names)(
  "%s: its README has a drawing, what it costs as of when, and how to take it down",
  (name) => {
    expect(readme(name)).toMatch(/[─▶┌]/);
    const [month = ""] = PRICES_OF.split(",");
    expect(readme(name)).toContain(`list prices of ${month}`);
    expect(commandsOf(name).some((line) => line.startsWith("npx cdktf destroy"))).toBe(true);
  },
);

test.each(names)(
  "%s: the commands of its README are ones that run: synth as it stands, the others name stacks that it makes",
  (name) => {
    const { status, stderr, stacks } = runOf(name);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const { app } = JSON.parse(readFileSync(join(examples, name, "cdktf.json"), "utf8")) as { app: string };
    expect(app).toBe("npx tsx main.ts");
    const commands = commandsOf(name);
    expect(commands).toContain("npx cdktf synth");
    for (const command of commands.filter(
      (line) => line.startsWith("npx cdktf ") && !line.endsWith("synth"),
    )) {
      const [, , verb = "", ...given] = command.split(" ");
      expect(["deploy", "output", "destroy"]).toContain(verb);
      for (const stack of given.map((word) => word.replaceAll("'", ""))) {
        expect(stack === "*" || stacks[stack] !== undefined ? stack : `no stack ${stack}`).toBe(stack);
      }
    }
    for (const command of commands) {
      const { status: parsed } = spawnSync("bash", ["-n"], { input: command });
      expect({ command, parsed }).toEqual({ command, parsed: 0 });
    }
  },
  60_000,
);

test.each(names)("%s: the sum in its README is the one that `npm run cost` says", (name) => {
  const { stacks } = runOf(name);
  const sum = Object.values(stacks).reduce((total, { json }) => total + estimate(json).total, 0);
  expect(readme(name)).toContain(`**$${sum.toFixed(2)}**`);
});

test.each(["direct", "nat-gateway", "existing-nat"])(
  "egress %s costs what the README's table says: a month and a GB, as `npm run cost` does",
  (egress) => {
    const into = join(folder, `egress-${egress}`);
    mkdirSync(into);
    const network = { vpcId: "vpc-0a", publicSubnetId: "subnet-0a", privateSubnetId: "subnet-0b" };
    const context = { egress, ...(egress === "existing-nat" ? { network } : {}) };
    const { stacks } = runApp("stacks/main.ts", into, { context });
    const { total, exitTrafficGb } = estimate(stacks["exit-node-stack"]?.json ?? {});
    const row = new RegExp(`^\\| \`${egress}\` +\\|[^|]+\\| \\$([\\d.]+) +\\| \\$([\\d.]+) +\\|$`, "m");
    const [, fixed, perGb] = row.exec(readFileSync(join(root, "README.md"), "utf8")) ?? [];
    expect({ fixed, perGb: Number(perGb) }).toEqual({ fixed: total.toFixed(2), perGb: exitTrafficGb });
  },
  60_000,
);

test("`npx cdktf synth` in an example's folder runs its app as it stands there", () => {
  const cdktf = join(root, "node_modules/.bin/cdktf");
  const run = spawnSync(cdktf, ["synth", "--output", join(folder, "out")], {
    cwd: join(examples, "own-relay"),
    encoding: "utf8",
    env: {
      ...process.env,
      SALLYPORT_AGENT_BUNDLE: __filename,
      CI: "1",
      CHECKPOINT_DISABLE: "1",
      CDKTF_OUTDIR: undefined,
    },
  });
  expect({ status: run.status, output: run.stdout + run.stderr }).toMatchObject({ status: 0 });
  expect(existsSync(join(folder, "out/stacks/own-relay/cdk.tf.json"))).toBe(true);
}, 120_000);
