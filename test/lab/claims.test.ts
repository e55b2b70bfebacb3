/**
 * Every scenario comes true that no other test looks at more closely. They wait more than they work, so two are played at a time,
 * those that take longest first.
 */
import { existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { allScenarios } from "../../lab/commands/test.ts";
import { readScenario } from "../../lab/scenario/scenario.ts";
import { canBuildLabs, LAB_PROGRAM, testWithLab } from "./bundle.ts";
import { play, type Played } from "./play.ts";

const testWithBuild = testWithLab();
const LIMIT_MS = 600_000;
const SIDE_BY_SIDE = 2;
/** Seconds, roughly: to build a lab, until a replacement is there, and until it is clear that nothing becomes direct. */
const BUILD_S = 8;
const WAITS_S = [
  [/^ *- terminate:/gm, 25],
  [/expect: relay/g, 11],
] as const;

const nameOf = (file: string): string => basename(file, ".lab.yaml");
const elsewhere = ["scenarios.test.ts", "networks.test.ts"]
  .map((file) => readFileSync(join(__dirname, file), "utf8"))
  .join("\n");
const files = allScenarios(join(__dirname, "../..")).filter(
  (file) => !new RegExp(`(ours|example)\\("${nameOf(file)}"\\)`).test(elsewhere),
);

const playing = new Map<string, Promise<Played>>();

beforeAll(() => {
  if (!canBuildLabs || !existsSync(LAB_PROGRAM)) return;
  const ends = Array.from({ length: SIDE_BY_SIDE }, () => ({
    at: 0,
    last: Promise.resolve<unknown>(undefined),
  }));
  for (const file of files.toSorted((a, b) => secondsOf(b) - secondsOf(a))) {
    const end = ends.reduce((least, one) => (one.at < least.at ? one : least));
    const start = (): Promise<Played> => play(file);
    const played = end.last.then(start, start);
    playing.set(file, played);
    Object.assign(end, { at: end.at + secondsOf(file), last: played });
  }
});

testWithBuild.each(files.map((file) => [nameOf(file), file]))(
  "%s: every step comes true",
  async (_, file) => {
    const played = await playing.get(file);
    expect(played?.failed).toEqual([]);
    expect(played?.steps).toHaveLength(readScenario(file).steps.length);
    expect(played?.code).toBe(0);
  },
  LIMIT_MS,
);

function secondsOf(file: string): number {
  const text = readFileSync(file, "utf8");
  return WAITS_S.reduce((sum, [what, seconds]) => sum + seconds * (text.match(what)?.length ?? 0), BUILD_S);
}
