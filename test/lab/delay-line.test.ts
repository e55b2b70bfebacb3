import { DelayQueue, formatDelayLine, parseDelayLine } from "../../lab/delay-line.ts";
import { Printer } from "../../lab/printer.ts";

test("packets leave in order, each after its time", () => {
  const queue = new DelayQueue<string>(10);
  queue.put("a", 0);
  queue.put("b", 4);
  expect(queue.due).toBe(10);
  expect(queue.take(9)).toEqual([]);
  expect(queue.take(10)).toEqual(["a"]);
  expect(queue.due).toBe(14);
  expect(queue.take(100)).toEqual(["b"]);
  expect(queue.due).toBeUndefined();
});

test("a line that is far behind drops what comes last", () => {
  const queue = new DelayQueue<number>(10);
  for (let i = 0; i < 5000; i++) queue.put(i, 0);
  const out = queue.take(10);
  expect(out).toHaveLength(4096);
  expect(out.at(-1)).toBe(4095);
});

test("a delay line is written as it is read", () => {
  const spec = { devices: ["one", "two"], delayMs: 12.5 } as const;
  expect(parseDelayLine(formatDelayLine(spec))).toEqual(spec);
});

test.each(["", "a:b", "a:b:", "a:b:-1", ":b:1", "a:b:1:2"])("%j is no delay line", (text) => {
  expect(parseDelayLine(text)).toBeUndefined();
});

test("stories told at once are printed one after another, the first one as it happens", () => {
  const out: string[] = [];
  const printer = new Printer((line) => out.push(line));
  const [first, second] = [printer.open(), printer.open()];
  second.say("second 1");
  first.say("first 1");
  expect(out).toEqual(["first 1"]);
  second.end();
  first.say("first 2");
  first.end();
  expect(out).toEqual(["first 1", "first 2", "second 1"]);
});
