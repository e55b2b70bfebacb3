import { rehearse } from "../../../agent/src/engine/rehearsal.ts";
import { wallTime } from "../../../agent/src/base/time.ts";
import { nodeSuite } from "../../../agent/src/io/node-suite.ts";
import { seededRandom } from "../../sim/random.ts";

const parts = (seed: number) => ({
  suite: nodeSuite,
  random: seededRandom(seed),
  calendar: { now: () => wallTime(1_790_000_000_000) },
});

test.each([1, 2, 3, 4, 5])("a rehearsal gets to a direct path and ends (seed %i)", (seed) => {
  const scene = rehearse(parts(seed));
  let steps = 0;
  let end = scene.next();
  for (; end.done !== true; end = scene.next()) expect(++steps).toBeLessThan(500);
  expect(end.value).toBe(true);
});
