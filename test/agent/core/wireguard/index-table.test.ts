import { IndexTable } from "../../../../agent/src/core/wireguard/index-table.ts";

test("an index names its owner until it is released, and nobody else meanwhile", () => {
  const table = new IndexTable<string>({ fill: (out) => out.fill(0xff) });
  const first = table.allocate("a");
  const second = table.allocate("b");
  expect([first, second]).toEqual([0xffffffff, 0]);
  expect([table.find(first), table.find(second)]).toEqual(["a", "b"]);
  table.assign(first, "c");
  expect(table.find(first)).toBe("c");
  table.release(first);
  expect(table.find(first)).toBeUndefined();
  expect(table.allocate("d")).toBe(first);
});
