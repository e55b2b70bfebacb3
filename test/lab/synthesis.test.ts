import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readOutput } from "../../lab/synthesis.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sallyport-test-synthesis-"));
  for (const name of ["a", "b", "c"]) {
    mkdirSync(join(folder, "stacks", name), { recursive: true });
    writeFileSync(join(folder, "stacks", name, "cdk.tf.json"), JSON.stringify({ name }));
  }
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const manifest = (content: unknown): void =>
  writeFileSync(join(folder, "manifest.json"), JSON.stringify(content));

test("stacks come after those that they depend on", () => {
  manifest({ stacks: { a: { dependencies: ["c"] }, b: {}, c: { dependencies: ["b"] } } });
  expect(readOutput(folder)).toEqual(["b", "c", "a"].map((name) => ({ name, json: { name } })));
});

test("a circle of stacks is a sentence that names them", () => {
  manifest({
    stacks: { a: { dependencies: ["b"] }, b: { dependencies: ["c"] }, c: { dependencies: ["b"] } },
  });
  expect(() => readOutput(folder)).toThrow(/manifest\.json: the stacks b → c → b wait for each other/);
});

test.each([
  [null],
  [{}],
  [[]],
  [{ stacks: null }],
  [{ stacks: { a: null } }],
  [{ stacks: { a: { dependencies: "b" } } }],
])("%j is no manifest", (content) => {
  manifest(content);
  expect(() => readOutput(folder)).toThrow(/manifest\.json is no manifest of cdktf: run `npx cdktf synth`/);
});
