import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Ip, Prefix } from "../../../agent/src/base/address.ts";
import { createMemoryDevice } from "../../../agent/src/io/memory-tun.ts";
import { LinuxRouter, noRouter, type Router, routerFor, type Routing } from "../../../agent/src/io/router.ts";
import { openTun, type Tun } from "../../../agent/src/io/tun.ts";
import { requires } from "../../skip.ts";

const withTun = requires(
  "root",
  process.platform === "linux" && process.getuid?.() === 0 && existsSync("/dev/net/tun"),
  "routes need Linux, root and /dev/net/tun: run as root",
);

/** Numbers of our own, so that nothing else on the machine is touched. */
const NAME = `spt-r${process.pid}`;
const TABLE = 100_000 + process.pid;
const PRIORITY = 10_000 + 100 * (process.pid % 200);
const OPTIONS = { device: NAME, table: TABLE, rulePriority: PRIORITY, mark: 0x90000 };

const addresses = [Ip.parse("198.18.78.1"), Ip.parse("fd00:5:78::1")];
const routes = [Prefix.parse("198.18.78.2"), Prefix.parse("198.18.79.0/24"), Prefix.parse("fd00:5:78::2")];
const routing: Routing = { addresses, routes, mtu: 1280 };

let tun: Tun | undefined;
let router: Router | undefined;
let folder: string | undefined;

afterEach(async () => {
  await router?.cleanup();
  await tun?.close();
  if (folder !== undefined) rmSync(folder, { recursive: true });
  tun = router = folder = undefined;
});

async function openRouter(command?: string): Promise<Router> {
  tun = await openTun({ name: NAME, mtu: 1400 });
  router = new LinuxRouter(command === undefined ? OPTIONS : { ...OPTIONS, command });
  return router;
}

const ip = (...args: string[]): string => execFileSync("ip", args, { encoding: "utf8" });
const lines = (text: string): string[] =>
  text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");

/** What the kernel has of ours, in words. */
function kernelState(): Record<string, string[]> {
  const ours = (line: string): boolean => Math.abs(Number(line.split(":")[0]) - PRIORITY - 50) <= 50;
  const routesOf = (family: string): string[] => {
    const all = lines(ip(family, "route", "show", "table", "all", "dev", NAME));
    return all.filter((line) => line.includes(`table ${TABLE}`)).map((line) => line.split(" ")[0] ?? "");
  };
  const addressesOf = (json: string): string[] => {
    const [link] = JSON.parse(json) as { addr_info: { local: string; scope: string; prefixlen: number }[] }[];
    const global = (link?.addr_info ?? []).filter(({ scope }) => scope === "global");
    return global.map(({ local, prefixlen }) => `${local}/${prefixlen}`).toSorted();
  };
  return {
    rules: lines(ip("rule"))
      .filter(ours)
      .map((line) => line.replace("\t", " ")),
    rulesV6: lines(ip("-6", "rule"))
      .filter(ours)
      .map((line) => line.replace("\t", " ")),
    routes: [...routesOf("-4"), ...routesOf("-6")].toSorted(),
    addresses: addressesOf(ip("-json", "address", "show", "dev", NAME)),
  };
}

const RULES = [
  `${PRIORITY}: from all fwmark 0x90000/0xff0000 lookup main`,
  `${PRIORITY + 20}: from all fwmark 0x90000/0xff0000 lookup default`,
  `${PRIORITY + 40}: from all fwmark 0x90000/0xff0000 unreachable`,
  `${PRIORITY + 60}: from all lookup ${TABLE}`,
];
const NOTHING = { rules: [], rulesV6: [], routes: [], addresses: [] };

/** A program that notes how it is called and then is `ip`. */
const isBatch = (call: string): boolean => call.includes("-batch");

function countingIp(): { command: string; calls: () => string[] } {
  folder = mkdtempSync(join(tmpdir(), "sallyport-router-"));
  const [command, log] = [join(folder, "counting-ip"), join(folder, "calls")];
  writeFileSync(command, `#!/bin/sh\necho "$@" >> ${log}\nexec ip "$@"\n`);
  chmodSync(command, 0o755);
  return { command, calls: () => lines(readFileSync(log, "utf8")).filter(isBatch).toSorted() };
}

withTun("addresses, rules and routes are set, and all of them taken back", async () => {
  const applied = await openRouter();
  await applied.apply(routing);
  expect(kernelState()).toEqual({
    rules: RULES,
    rulesV6: RULES,
    routes: ["198.18.78.2", "198.18.79.0/24", "fd00:5:78::2"],
    addresses: ["198.18.78.1/32", "fd00:5:78::1/128"],
  });
  expect(ip("link", "show", "dev", NAME)).toMatch(/UP.* mtu 1280 /);
  expect(ip("route", "get", "198.18.79.9")).toContain(`dev ${NAME}`);

  await applied.cleanup();
  expect(kernelState()).toEqual(NOTHING);
});

withTun("only the difference is applied: nothing new, no call", async () => {
  const { command, calls } = countingIp();
  const applied = await openRouter(command);
  await applied.apply(routing);
  const first = calls().length;
  await applied.apply({ ...routing, routes: [...routes] });
  expect(calls()).toHaveLength(first);

  await applied.apply({
    addresses: addresses.slice(0, 1),
    routes: [Prefix.parse("198.18.78.9"), ...routes.slice(1)],
    mtu: 1300,
  });
  expect(calls()).toHaveLength(first + 1);
  expect(kernelState()).toMatchObject({
    routes: ["198.18.78.9", "198.18.79.0/24", "fd00:5:78::2"],
    addresses: ["198.18.78.1/32"],
  });
  expect(ip("link", "show", "dev", NAME)).toContain("mtu 1300");
});

withTun("changes asked for at the same time are made one after the other", async () => {
  const applied = await openRouter();
  const steps = [routing, { ...routing, routes: [] }, { ...routing, routes: routes.slice(0, 1) }];
  await Promise.all(steps.map((step) => applied.apply(step)));
  expect(kernelState()["routes"]).toEqual(["198.18.78.2"]);
});

withTun("what a killed daemon left behind is no obstacle, nor what others have removed", async () => {
  const applied = await openRouter();
  const killed = new LinuxRouter(OPTIONS);
  await killed.apply(routing);
  await killed.release();
  await applied.apply(routing);
  expect(kernelState()["rules"]).toEqual(RULES);

  ip("rule", "del", "pref", `${PRIORITY}`);
  ip("route", "del", "198.18.78.2", "dev", NAME, "table", `${TABLE}`);
  await tun?.close();
  await applied.cleanup();
  expect(lines(ip("rule")).some((line) => line.includes(`lookup ${TABLE}`))).toBe(false);
});

describe.each([
  ["netlink", undefined],
  ["the monitor programs", "1"],
])("by %s", (_, withoutFfi) => {
  const restored = jest.fn();

  async function openWatching(): Promise<LinuxRouter> {
    tun = await openTun({ name: NAME, mtu: 1400 });
    // Read again with each use; the device needs what it turns off.
    if (withoutFfi !== undefined) process.env["SALLYPORT_NO_FFI"] = withoutFfi;
    const watching = new LinuxRouter({ ...OPTIONS, onRestored: restored });
    router = watching;
    await watching.apply(routing);
    await heard(watching);
    restored.mockClear();
    return watching;
  }
  afterEach(() => {
    delete process.env["SALLYPORT_NO_FFI"];
  });

  async function until(holds: () => boolean): Promise<void> {
    const deadline = performance.now() + 10_000;
    while (!holds()) {
      if (performance.now() > deadline) throw new Error(`never so: ${JSON.stringify(kernelState())}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** A monitor takes its time to start. */
  async function heard(watching: LinuxRouter): Promise<void> {
    for (restored.mockClear(); restored.mock.calls.length === 0;) {
      await watching.apply({ ...routing, mtu: 1281 });
      ip("route", "replace", "198.18.79.1", "dev", NAME, "table", `${TABLE}`);
      ip("route", "del", "198.18.79.1", "dev", NAME, "table", `${TABLE}`);
      await new Promise((resolve) => setTimeout(resolve, 250));
      await watching.apply(routing);
    }
  }

  withTun("what others remove is put back, and that is no reason to put it back again", async () => {
    await openWatching();
    const all = JSON.stringify(kernelState());
    for (const removal of [
      ["rule", "del", "pref", `${PRIORITY + 60}`],
      ["-6", "rule", "del", "pref", `${PRIORITY + 60}`],
      ["route", "flush", "table", `${TABLE}`],
      ["address", "del", "198.18.78.1/32", "dev", NAME],
      ["-6", "address", "del", "fd00:5:78::1/128", "dev", NAME],
      ["link", "set", "dev", NAME, "down"],
    ]) {
      ip(...removal);
      expect(JSON.stringify(kernelState())).not.toBe(all);
      await until(() => JSON.stringify(kernelState()) === all);
    }
    await new Promise((resolve) => setTimeout(resolve, 300));
    const { length } = restored.mock.calls;
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(restored).toHaveBeenCalledTimes(length);
  });

  withTun("more changes than can be kept are no reason to hear nothing more", async () => {
    await openWatching();
    const lines = Array.from(
      { length: 4000 },
      (__, i) => `198.19.${i >> 8}.${i & 255} dev ${NAME} table 1${TABLE}`,
    );
    const input = lines.map((line) => `route add ${line}\nroute del ${line}\n`).join("");
    execFileSync("ip", ["-batch", "-"], { input });
    await new Promise((resolve) => setTimeout(resolve, 500));
    ip("rule", "del", "pref", `${PRIORITY}`);
    await until(() => kernelState()["rules"]?.length === RULES.length);
  });
});

withTun("what the kernel refuses is an error with the line, and is tried again", async () => {
  const applied = await openRouter();
  await tun?.close();
  await expect(applied.apply(routing)).rejects.toMatchObject({
    code: "router",
    message: expect.stringMatching(
      /^"ip link set dev .* failed \(and \d more\): Cannot find device/,
    ) as string,
  });
  tun = await openTun({ name: NAME, mtu: 1280 });
  await applied.apply(routing);
  expect(kernelState()["routes"]).toHaveLength(3);
});

test("a machine without the ip command is told what to install", async () => {
  await expect(new LinuxRouter({ ...OPTIONS, command: "/no/such/ip" }).apply(routing)).rejects.toMatchObject({
    code: "router-no-ip",
    message: expect.stringMatching(/no\/such\/ip.*ENOENT.*install iproute2/) as string,
  });
});

test("a device in memory needs no routes", async () => {
  const nothing = routerFor(createMemoryDevice());
  expect(nothing).toBe(noRouter);
  await nothing.apply(routing);
  await nothing.cleanup();
});
