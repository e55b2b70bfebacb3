import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { bundleLab, canBuildLabs, type LabBundle } from "./bundle.ts";

let bundle: LabBundle;
beforeAll(() => {
  bundle = bundleLab();
  writeFileSync(join(bundle.folder, "half.json"), '{"resource":');
  writeFileSync(join(bundle.folder, "empty.json"), "{}");
  const vpc = (cidr: string) => JSON.stringify({ resource: { aws_vpc: { v: { cidr_block: cidr } } } });
  writeFileSync(join(bundle.folder, "gone.json"), vpc("${aws_vpc.gone.cidr_block}"));
  writeFileSync(join(bundle.folder, "circle.json"), vpc("${aws_vpc.v.cidr_block}"));
});
afterAll(() => bundle.remove());

test.each<[string[], RegExp]>([
  [[], /there is no command “”\nusage: lab up/],
  [["dance"], /there is no command “dance”/],
  [["demo", "--fast"], /Unknown option '--fast'/],
  [["demo", "--stack", "missing.json"], /missing\.json can not be read: name the cdk\.tf\.json/],
  [["demo", "--stack", "half.json"], /half\.json is not JSON: run `npx cdktf synth` again/],
  [["demo", "--stack", "empty.json"], /the stack has no instance/],
  [["demo", "--stack", "empty.json", "--closed-port"], /leave out --stack/],
  [
    ["up", "--stack", "missing.json"],
    canBuildLabs ? /missing\.json can not be read/ : /no lab can be built here/,
  ],
  [
    ["up", "--stack", "empty.json"],
    canBuildLabs ? /the stack has no instance to build a lab around/ : /no lab can be built here/,
  ],
  [
    ["up", "--stack", "gone.json"],
    canBuildLabs
      ? /aws_vpc\.v\.cidr_block = .*there is no resource aws_vpc\.gone/
      : /no lab can be built here/,
  ],
  [
    ["up", "--stack", "circle.json"],
    canBuildLabs ? /aws_vpc\.v\.cidr_block refers to itself in a circle/ : /no lab can be built here/,
  ],
  [["up", "--name", "a b"], canBuildLabs ? /--name a b: give letters/ : /no lab can be built here/],
  [["exec", "laptop"], /name the command after --/],
  [["exec", "laptop", "--name", "nobody", "--", "true"], /no lab called nobody is up/],
  [["down", "--name", "nobody"], /no lab called nobody is up/],
  [["test", "missing.yaml"], canBuildLabs ? /missing\.yaml is not there/ : /no lab can be built here/],
  [["icmp", "nowhere"], /not an IP address: nowhere/],
  [["icmp"], /usage/],
  [["delay-line", "a:b"], /not DEVICE:DEVICE:MILLISECONDS: a:b/],
])("%j is misuse: exit code 2 and a sentence", (args, message) => {
  const [command = "", ...self] = bundle.self;
  const { status, stderr } = spawnSync(command, [...self, ...args], { cwd: bundle.folder, encoding: "utf8" });
  expect(stderr).toMatch(message);
  expect(stderr).not.toMatch(/^\s+at /m);
  expect(status).toBe(stderr.includes("no lab can be built here") ? 1 : 2);
});
