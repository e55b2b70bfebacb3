import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { allScenarios } from "../../lab/commands/test.ts";
import { parseScenario, readScenario, scenarioJsonSchema, worldOf } from "../../lab/scenario/scenario.ts";
import { checkWorld } from "../../lab/world.ts";

const root = join(__dirname, "../..");

test.each(allScenarios(root).map((file) => [file.slice(root.length + 1), file]))(
  "%s is a scenario whose stacks are there and whose hosts fit together",
  (_, file) => {
    const scenario = readScenario(file);
    const { stacks, folder } = scenario;
    for (const path of "app" in stacks ? [stacks.app] : stacks.files) {
      expect(existsSync(join(folder, path))).toBe(true);
    }
    expect(() => checkWorld(worldOf(scenario), [])).not.toThrow();
  },
);

test("every example has its scenario", () => {
  const examples = ["inside-your-stack", "multi-region", "one-exit-node", "own-relay", "tailscale-network"];
  for (const name of examples)
    expect(allScenarios(root).join()).toContain(`examples/${name}/${name}.lab.yaml`);
});

test("the schema that editors read is that of the program: npm run scenario-schema", () => {
  const written = readFileSync(join(root, "lab/scenario/scenario.schema.json"), "utf8");
  expect(JSON.parse(written)).toEqual(JSON.parse(JSON.stringify(scenarioJsonSchema())));
});

const GOOD = "about: x\nstacks: { app: main.ts }\nsteps: [{ from: a, to: b, expect: direct }]";

test.each<[string, string, RegExp]>([
  ["no YAML", "a: [", /s\.yaml is not YAML/],
  ["no steps", "about: x\nstacks: { app: main.ts }\nsteps: []", /steps: /],
  ["an unknown key", `${GOOD}\nhost: {}`, /Unrecognized key: "host"/],
  ["an unknown expectation", GOOD.replace("direct", "fast"), /steps\.0/],
  ["a time without unit", GOOD.replace("expect", "within: 20, expect"), /steps\.0/],
])("%s is a sentence that names the file and the place", (_, content, message) => {
  expect(() => parseScenario(content, "/x/s.yaml")).toThrow(message);
});

test("a missing file is a sentence", () => {
  expect(() => readScenario("/nowhere.yaml")).toThrow(/\/nowhere\.yaml can not be read: name a scenario/);
});

test.each<[string, RegExp]>([
  [`${GOOD}\nhosts: { a: { network: home } }`, /host a is in the network home, which “networks” lacks/],
  [
    `${GOOD}\nnetworks: { home: { nat: easy, forward: { "1": b } } }`,
    /forwards a port to b, which isn't in it/,
  ],
  [`${GOOD}\nhosts: { internet: {} }`, /two things of the lab are called internet/],
])("hosts that don't fit together are refused", (content, message) => {
  expect(() => checkWorld(worldOf(parseScenario(content, "s.yaml")), [])).toThrow(message);
});
