/** The node of a self-healing cell against EC2 and Auto Scaling as the lab serves them, judged by the stack's own policy. */
import { OperationError } from "../../../../agent/src/base/errors.ts";
import { silentLog } from "../../../../agent/src/base/log.ts";
import { after, type Instant, instant, millis } from "../../../../agent/src/base/time.ts";
import type { StatusJson } from "../../../../agent/src/health/status-json.ts";
import { Imds } from "../../../../agent/src/io/aws/imds.ts";
import { CellCloud } from "../../../../agent/src/io/cell/cell-cloud.ts";
import type { Cell } from "../../../../agent/src/io/cell/cell-file.ts";
import { claim } from "../../../../agent/src/io/cell/claim.ts";
import { keep } from "../../../../agent/src/io/cell/keep.ts";
import { type Services, startLoopbackServices } from "../../../../lab/services/services.ts";
import { exitNodeCloud } from "../../../lab/services/exit-node-cloud.ts";
import { type MemoryRegion, REGION } from "../../../lab/services/memory-cloud.ts";

const before = { ...process.env };
let services: Services | undefined;
afterEach(async () => {
  process.env = { ...before };
  await services?.close();
});

/** A clock that jumps as far as it is waited for. */
class Clock {
  #now: Instant = instant(0);
  readonly now = (): Instant => this.#now;
  readonly sleep = async (ms: number): Promise<void> => {
    this.#now = after(this.#now, millis(Math.max(ms, 1)));
    await new Promise((resolve) => setImmediate(resolve));
  };
}

async function start(lifecycleTarget: "InService" | "Terminated" = "InService") {
  const { cloud, groupName } = exitNodeCloud(() => ({ egress: "nat-gateway", selfHealing: true }));
  const { region } = cloud;
  const ofGroup = { "aws:autoscaling:groupName": groupName };
  region.addInstance({ id: "i-former", role: "exit-role", ip: "10.0.1.12", tags: ofGroup });
  const own = region.instances.get("i-own");
  if (own?.lifecycle !== undefined) {
    region.instances.set(
      "i-own",
      Object.assign(own, { lifecycle: { ...own.lifecycle, target: lifecycleTarget } }),
    );
  }
  services = await startLoopbackServices({ cloud, instanceId: "i-own" });
  Object.assign(process.env, services.environment, { AWS_REGION: REGION });
  const cell: Cell = {
    autoScalingGroup: groupName,
    ...{ launchHook: `${groupName}-launch`, terminateHook: `${groupName}-terminate` },
    ...{ ingressInterfaceId: "eni-ingress", identityVolumeId: "vol-identity" },
  };
  const kit = { cell, cloud: new CellCloud({ cell, instanceId: "i-own", region: REGION }), log: silentLog };
  return { region, groupName, kit, clock: new Clock() };
}

const holders = (region: MemoryRegion): readonly (string | undefined)[] => [
  region.interfaces.get("eni-ingress")?.attachment?.instanceId,
  region.volumes.get("vol-identity")?.attachment?.instanceId,
];
const hasVolume = (region: MemoryRegion) => (): boolean => holders(region)[1] === "i-own";

test("a replacement takes interface and volume from the node before it, within what its role may do", async () => {
  const { region, kit, clock } = await start();
  await region.attachInterface("eni-ingress", "i-former", 1);
  await region.attachVolume("vol-identity", "i-former", "/dev/sdf");
  await claim({ ...kit, hasVolume: hasVolume(region), now: clock.now, sleep: clock.sleep });
  expect(holders(region)).toEqual(["i-own", "i-own"]);
  expect(region.lifecycle).toContain(`${kit.cell.launchHook} i-own heartbeat`);

  const calls = services?.calls.length;
  await claim({ ...kit, hasVolume: hasVolume(region), now: clock.now, sleep: clock.sleep });
  expect(services?.calls.slice(calls).map(({ action }) => action)).not.toContain("ec2:DetachVolume");
  expect(holders(region)).toEqual(["i-own", "i-own"]);
}, 20_000);

test("an interface that does not exist is one clear sentence", async () => {
  const { region, kit, clock } = await start();
  const cell = { ...kit.cell, ingressInterfaceId: "eni-nobody" };
  const cloud = new CellCloud({ cell, instanceId: "i-own", region: REGION });
  const claimed = claim({
    ...kit,
    cell,
    cloud,
    hasVolume: hasVolume(region),
    now: clock.now,
    sleep: clock.sleep,
  });
  await expect(claimed).rejects.toThrow(
    /^the interface eni-nobody can not be taken over: InvalidNetworkInterfaceID/,
  );
}, 20_000);

/** Of an agent, as far as it is asked. */
const status = (proven: boolean): StatusJson =>
  ({
    BackendState: "Running",
    Health: proven ? [] : ["Exit traffic would be seen from 192.0.2.9, not from 192.0.2.1."],
    Forwarding: {
      ...{ Open: proven, Proven: proven, Reasons: proven ? [] : ["egress-wrong-address"], Tuning: [] },
      ...{ Egress: "eth0", Ingress: "eth1", SeenEgress: "", SeenIngress: "" },
    },
  }) as unknown as StatusJson;

async function kept(target: "InService" | "Terminated", desired: number, proven: boolean) {
  const { region, kit, clock, groupName } = await start(target);
  const group = region.groups.get(groupName);
  if (group !== undefined) region.groups.set(groupName, { ...group, desiredCapacity: desired });
  await region.attachInterface("eni-ingress", "i-own", 1);
  await region.attachVolume("vol-identity", "i-own", "/dev/sdf");
  const done: string[] = [];
  const end = new AbortController();
  const running = keep({
    ...kit,
    metadata: new Imds(),
    status: () => Promise.resolve(status(proven)),
    logout: () => Promise.resolve(void done.push("logout")),
    letGo: () => Promise.resolve(void done.push("let go")),
    ...{ signal: end.signal, now: clock.now },
    sleep: async (ms) => {
      await clock.sleep(ms);
      if (target === "InService" && region.lifecycle.some((one) => one.endsWith("CONTINUE"))) end.abort();
    },
  });
  const outcome = await running.then(
    () => "kept",
    (error: unknown) => (error instanceof OperationError ? error.message : String(error)),
  );
  return {
    outcome,
    done,
    lifecycle: region.lifecycle.filter((one) => !one.endsWith("heartbeat")),
    holders: holders(region),
  };
}

test("a node whose ways are proven completes its launch", async () => {
  const { outcome, lifecycle, done } = await kept("InService", 1, true);
  expect([outcome, ...done]).toEqual(["kept"]);
  expect(lifecycle).toEqual([expect.stringMatching(/-launch i-own CONTINUE$/)]);
}, 20_000);

test("one whose way out has the wrong address is abandoned, with the reason", async () => {
  const { outcome, lifecycle } = await kept("InService", 1, false);
  expect(outcome).toMatch(/^the node is given up after 300 s: .*seen from 192.0.2.9/);
  expect(lifecycle).toEqual([expect.stringMatching(/-launch i-own ABANDON$/)]);
}, 20_000);

test("at its end a node for which another comes lets go of everything and stays in the network", async () => {
  const { done, lifecycle, holders: held } = await kept("Terminated", 1, true);
  expect(done).toEqual(["let go"]);
  expect(held).toEqual([undefined, undefined]);
  expect(lifecycle).toEqual([expect.stringMatching(/-terminate i-own CONTINUE$/)]);
}, 20_000);

test("at the end of the whole group it logs out first", async () => {
  const { done, holders: held } = await kept("Terminated", 0, true);
  expect(done).toEqual(["logout", "let go"]);
  expect(held).toEqual([undefined, undefined]);
}, 20_000);
