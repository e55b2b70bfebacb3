import { Holding, type HoldingFacts } from "../../../../agent/src/core/cell/holding.ts";

const kept: HoldingFacts = { target: "InService", hasInterface: true };
const taken: HoldingFacts = { ...kept, hasInterface: false };
const ended: HoldingFacts = { ...kept, target: "Terminated" };

/** What is done, where the group wants so many. */
function actions(holding: Holding, facts: readonly HoldingFacts[], desired?: number): string[] {
  const done: string[] = [];
  for (const one of facts) {
    holding.handleFacts(one);
    for (let action = holding.pollAction(); action !== undefined; action = holding.pollAction()) {
      done.push(action.kind);
      if (action.kind === "ask-desired") holding.handleDesired(desired);
    }
  }
  return done;
}

test("a node that is kept does nothing, also when the metadata do not answer for a while", () => {
  const holding = new Holding(true);
  const silent: HoldingFacts = { target: undefined, hasInterface: undefined };
  expect(actions(holding, [kept, silent, silent, silent, silent, kept, taken, kept])).toEqual([]);
});

test("one whose interface is taken away lets go at once, and ends without another word in its name", () => {
  const holding = new Holding(true);
  expect(actions(holding, [kept, taken, taken, taken, taken])).toEqual(["let-go"]);
  expect(actions(holding, [{ ...taken, target: "Terminated" }])).toEqual(["complete"]);
  expect(holding.isOver).toBe(true);
});

test("one that is replaced without having been relieved lets go of everything, and stays in the network", () => {
  const holding = new Holding(true);
  expect(actions(holding, [kept, ended], 1)).toEqual(["ask-desired", "let-go", "release", "complete"]);
  expect(actions(new Holding(true), [kept, ended], undefined)).not.toContain("logout");
});

test("one that is taken down for good logs out before it lets go", () => {
  const holding = new Holding(true);
  expect(actions(holding, [kept, ended, ended], 0)).toEqual([
    ...["ask-desired", "logout", "let-go", "release", "complete"],
  ]);
  expect(holding.isOver).toBe(true);
});

test("an interface that is just leaving is a replacement's doing: nobody logs out", () => {
  expect(actions(new Holding(true), [kept, { ...taken, target: "Terminated" }], 0)).toEqual([
    "let-go",
    "complete",
  ]);
});

test("an interface that has not come yet is not missed", () => {
  expect(actions(new Holding(true), [taken, taken, taken, taken])).toEqual([]);
});

test("a node whose address moves with nothing watches for its end only", () => {
  expect(actions(new Holding(false), [taken, taken, taken, taken, ended], 0)).toContain("logout");
});
