import { changedPrefs, routableIps } from "../../../agent/src/roles/prefs.ts";
import { defaultPrefs } from "../../../agent/src/io/state-store.ts";

test("what a request leaves out stays as it was", () => {
  const former = { ...defaultPrefs, exitNode: "auto", acceptRoutes: true, advertiseRoutes: ["10.1.0.0/16"] };
  expect(changedPrefs(former, { hostname: "web" })).toEqual({ ...former, hostname: "web" });
});

test("an empty exit node is none", () => {
  expect(changedPrefs({ ...defaultPrefs, exitNode: "auto" }, { exitNode: "" }).exitNode).toBeUndefined();
});

test.each([
  [{ advertiseRoutes: ["10.1.0.1/16"] }, "10.1.0.1/16 has bits behind its length: write 10.1.0.0/16"],
  [{ advertiseRoutes: ["10.1.0.0"] }, /^"10\.1\.0\.0" is no network/],
  [{ advertiseRoutes: ["x/8"] }, /^"x\/8" is no network/],
  [{ advertiseRoutes: ["0.0.0.0/0"] }, /give --advertise-exit-node instead$/],
  [{ forwardAccept: ["ufw"] }, '--forward-accept knows no "ufw": it takes docker-user, firewalld'],
  [{ exitNodeDns: ["dns.example"] }, /^"dns\.example" is no IP address/],
  [{ exitNode: "a", advertiseExitNode: true }, /can not use one/],
])("%j is refused", (request, message) => {
  expect(() => changedPrefs(defaultPrefs, request)).toThrow(message);
});

test("an exit node offers both default routes beside its networks", () => {
  const prefs = { ...defaultPrefs, advertiseExitNode: true, advertiseRoutes: ["10.1.0.0/16"] };
  expect(routableIps(prefs)).toEqual(["0.0.0.0/0", "::/0", "10.1.0.0/16"]);
  expect(routableIps(defaultPrefs)).toEqual([]);
});
