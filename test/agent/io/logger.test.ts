import { createLogger } from "../../../agent/src/io/logger.ts";

function logged(
  options: Parameters<typeof createLogger>[0],
  use: (log: ReturnType<typeof createLogger>) => void,
): string {
  let text = "";
  use(createLogger({ ...options, write: (line) => (text += line) }));
  return text;
}

test("a program gets one JSON object a line: the event and its fields", () => {
  const text = logged({ human: false }, (log) =>
    log.info("registered", { name: "exit1", port: 41641, ok: true }),
  );
  expect(JSON.parse(text)).toEqual({
    level: "info",
    time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
    event: "registered",
    name: "exit1",
    port: 41641,
    ok: true,
  });
  expect(text.endsWith("}\n")).toBe(true);
});

test("a person gets a short line", () => {
  const text = logged({ human: true }, (log) =>
    log.warn("relay-lost", { region: "nyc", why: "it was closed", n: 3 }),
  );
  expect(text).toMatch(/^\d\d:\d\d:\d\d warn {2}relay-lost region=nyc why="it was closed" n=3\n$/);
});

test("what is below the level is left out", () => {
  const text = logged({ human: true, level: "warn" }, (log) => {
    log.debug("a");
    log.info("b");
    log.warn("c");
    log.error("d");
  });
  expect(text.match(/ [abcd]$/gm)).toEqual([" c", " d"]);
});

test("a field can not make a second line", () => {
  const text = logged({ human: true }, (log) => log.info("x", { why: "one\ntwo" }));
  expect(text.split("\n")).toHaveLength(2);
});
