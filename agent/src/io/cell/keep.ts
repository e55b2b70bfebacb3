/**
 * The life of a cell's node after it has taken over: proves itself to its group, watches whether a replacement takes over from
 * it, and ends in order when its instance is terminated.
 */
import { setTimeout as wait } from "node:timers/promises";
import { OperationError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import { after, type Instant, type Millis, seconds, since } from "../../base/time.ts";
import { Holding, type HoldingAction } from "../../core/cell/holding.ts";
import type { Part, Whereabouts } from "../../core/cell/takeover.ts";
import type { StatusJson } from "../../health/status-json.ts";
import { now as systemNow } from "../clock.ts";
import type { Metadata } from "../exit-node/machine-facts.ts";
import type { Cell } from "./cell-file.ts";

export interface KeepCloud {
  findInterface(): Promise<Whereabouts>;
  detach(part: Part, force: boolean, own: boolean): Promise<void>;
  heartbeat(hook: "launchHook"): Promise<void>;
  complete(hook: "launchHook" | "terminateHook", result: "CONTINUE" | "ABANDON"): Promise<void>;
  desiredCapacity(): Promise<number>;
}

export interface KeepOptions {
  readonly cell: Cell;
  readonly cloud: KeepCloud;
  readonly metadata: Metadata;
  /** Of the agent on this machine. @throws while it does not answer */
  readonly status: () => Promise<StatusJson>;
  readonly logout: () => Promise<void>;
  /** Stops the agent and unmounts what it wrote to. */
  readonly letGo: () => Promise<void>;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly now?: () => Instant;
  readonly sleep?: (ms: number) => Promise<unknown>;
}

/** From the first start to both ways proven. */
const PROVE_WITHIN: Millis = seconds(300);
const PROVE_EVERY: Millis = seconds(1);
/** Of the metadata, which are on the same host. */
const LOOK_EVERY: Millis = seconds(2);
const HEARTBEAT_EVERY: Millis = seconds(60);
/** AWS may be out of reach for a while; the hook's own timeout ends it otherwise. */
const TRIES = 5;

/** @throws OperationError when the node is given up, with the reason */
export async function keep(options: KeepOptions): Promise<void> {
  const { metadata, log } = options;
  const target = await metadata.find(TARGET).catch(() => undefined);
  if (target !== "Terminated") await prove(options);
  log.info("cell-kept");
  await hold(options);
}

const TARGET = "autoscaling/target-lifecycle-state";

/** Completes the launch when both ways are as they should be; abandons it where they do not become so. */
async function prove(options: KeepOptions): Promise<void> {
  const { cloud, log, signal, now = systemNow, sleep = wait } = options;
  const start = now();
  let heartbeatAt = start;
  let missing = await whatIsMissing(options);
  while (missing !== undefined && !signal.aborted && since(start, now()) < PROVE_WITHIN) {
    if (now() >= heartbeatAt) {
      heartbeatAt = after(now(), HEARTBEAT_EVERY);
      await cloud.heartbeat("launchHook").catch(() => {});
    }
    await sleep(PROVE_EVERY);
    missing = await whatIsMissing(options);
  }
  if (signal.aborted) return;
  if (missing === undefined) {
    log.info("cell-proven", { seconds: Math.round(since(start, now()) / 1000) });
    return await complete(options, "launchHook", "CONTINUE");
  }
  log.error("cell-abandoned", { why: missing });
  await complete(options, "launchHook", "ABANDON");
  throw new OperationError(
    "cell-unproven",
    `the node is given up after ${PROVE_WITHIN / 1000} s: ${missing}`,
  );
}

async function whatIsMissing({ status }: KeepOptions): Promise<string | undefined> {
  try {
    const { BackendState: state, Forwarding: forwarding, Health: health } = await status();
    if (state !== "Running") return `the agent is "${state}" (${health.join(" ") || "nothing is wrong"})`;
    if (forwarding === undefined) return "the agent forwards nothing";
    if (forwarding.Open && forwarding.Proven && !forwarding.Reasons.includes("forward-blocked"))
      return undefined;
    return `the way out is not proven: ${health.join(" ") || "nobody has said yet what the internet sees"}`;
  } catch (error) {
    return `the agent does not answer (${error instanceof Error ? error.message : String(error)})`;
  }
}

async function hold(options: KeepOptions): Promise<void> {
  const { cell, signal, sleep = wait } = options;
  const holding = new Holding(cell.ingressInterfaceId !== undefined);
  while (!signal.aborted && !holding.isOver) {
    holding.handleFacts(await look(options));
    for (let action = holding.pollAction(); action !== undefined; action = holding.pollAction()) {
      await act(holding, action, options);
    }
    if (!holding.isOver) await sleep(LOOK_EVERY);
  }
}

async function look({ metadata, cell }: KeepOptions) {
  const target = await metadata.find(TARGET).catch(() => undefined);
  const hasInterface = await interfaceIds(metadata).then(
    (ids) => ids.includes(cell.ingressInterfaceId ?? ""),
    () => undefined,
  );
  return { target, hasInterface };
}

async function interfaceIds(metadata: Metadata): Promise<readonly string[]> {
  const macs = ((await metadata.find("network/interfaces/macs/")) ?? "")
    .split("\n")
    .filter((mac) => mac !== "");
  const paths = macs.map((mac) => `network/interfaces/macs/${mac.replace(/\/$/, "")}/interface-id`);
  return (await Promise.all(paths.map((path) => metadata.find(path)))).filter((id) => id !== undefined);
}

/** What fails is told and passed over: the instance ends in any case. */
async function act(holding: Holding, { kind }: HoldingAction, options: KeepOptions): Promise<void> {
  const { cloud, log, logout, letGo } = options;
  log.info("cell", { action: kind });
  const tried = async (what: Promise<unknown>): Promise<void> => {
    await what.catch((error: unknown) =>
      log.warn("cell-failed", { action: kind, why: error instanceof Error ? error.message : String(error) }),
    );
  };
  switch (kind) {
    case "ask-desired":
      return holding.handleDesired(await cloud.desiredCapacity().catch(() => undefined));
    case "logout":
      return await tried(logout());
    case "let-go":
      return await tried(letGo());
    case "release":
      return await tried(release(options));
    case "complete":
      return await tried(complete(options, "terminateHook", "CONTINUE"));
  }
}

async function release({ cell, cloud }: KeepOptions): Promise<void> {
  const isOurs = cell.ingressInterfaceId !== undefined && (await cloud.findInterface()) === "here";
  const parts = [
    ...(isOurs ? [cloud.detach("interface", false, true)] : []),
    ...(cell.identityVolumeId === undefined ? [] : [cloud.detach("volume", false, true)]),
  ];
  await Promise.all(parts);
}

/** Says it again where AWS did not hear; a hook that nobody waits at is no failure. */
async function complete(
  { cloud, log, sleep = wait }: KeepOptions,
  hook: "launchHook" | "terminateHook",
  result: "CONTINUE" | "ABANDON",
): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await cloud.complete(hook, result);
      return log.info("cell-completed", { hook, result });
    } catch (error) {
      const name = error instanceof Error ? error.name : "";
      if (name === "ValidationError") return log.info("cell-no-hook", { hook });
      if (tries === TRIES) throw error;
      await sleep(LOOK_EVERY);
    }
  }
}
