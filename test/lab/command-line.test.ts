import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { bundleLab, type LabBundle } from "./bundle.ts";

let bundle: LabBundle;
beforeAll(() => {
  bundle = bundleLab();
  writeFileSync(join(bundle.folder, "half.json"), '{"resource":');
  writeFileSync(join(bundle.folder, "empty.json"), "{}");
});
afterAll(() => bundle.remove());

test.each<[string[], RegExp]>([
  [[], /there is no command “”\nusage: lab demo/],
  [["dance"], /there is no command “dance”/],
  [["demo", "--fast"], /Unknown option '--fast'/],
  [["demo", "--stack", "missing.json"], /missing\.json can not be read: name the cdk\.tf\.json/],
  [["demo", "--stack", "half.json"], /half\.json is not JSON: run `npx cdktf synth` again/],
  [["demo", "--stack", "empty.json"], /the stack has no instance/],
  [["demo", "--stack", "empty.json", "--closed-port"], /leave out --stack/],
  [["icmp", "nowhere"], /not an IP address: nowhere/],
  [["icmp"], /usage/],
  [["delay-line", "a:b"], /not DEVICE:DEVICE:MILLISECONDS: a:b/],
])("%j is misuse: exit code 2 and a sentence", (args, message) => {
  const [command = "", ...self] = bundle.self;
  const { status, stderr } = spawnSync(command, [...self, ...args], { cwd: bundle.folder, encoding: "utf8" });
  expect(stderr).toMatch(message);
  expect(stderr).not.toMatch(/^\s+at /m);
  expect(status).toBe(2);
});
