/** Takes over interface and volume: asks EC2 what `Takeover` wants to know, until it has both or gives up. */
import { existsSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import { OperationError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import type { Instant } from "../../base/time.ts";
import {
  type Part,
  type Refusal,
  Takeover,
  type TakeoverAction,
  type Whereabouts,
} from "../../core/cell/takeover.ts";
import { now as systemNow } from "../clock.ts";
import { refusalOf } from "./cell-cloud.ts";
import type { Cell } from "./cell-file.ts";

/** What a takeover asks of the cloud. */
export interface TakeoverCloud {
  findInterface(): Promise<Whereabouts>;
  attach(part: Part): Promise<void>;
  detach(part: Part, force: boolean): Promise<void>;
  heartbeat(hook: "launchHook"): Promise<void>;
}

export interface ClaimOptions {
  readonly cell: Cell;
  readonly cloud: TakeoverCloud;
  readonly log: Log;
  /** Whether the volume's device is here. @default as Nitro instances show it */
  readonly hasVolume?: () => boolean;
  readonly now?: () => Instant;
  readonly sleep?: (ms: number) => Promise<unknown>;
}

/** @throws OperationError when it can not be had */
export async function claim(options: ClaimOptions): Promise<void> {
  const { cell, log, hasVolume = () => volumeIsHere(cell), now = systemNow, sleep = wait } = options;
  const takeover = new Takeover(partsOf(cell), now());
  for (;;) {
    if (hasVolume()) takeover.handleVolumeHere(now());
    const { outcome } = takeover;
    if (outcome?.kind === "taken") return log.info("cell-taken");
    if (outcome !== undefined) {
      const what = outcome.part === "interface" ? cell.ingressInterfaceId : cell.identityVolumeId;
      const text = `the ${outcome.part} ${what ?? ""} can not be taken over: ${outcome.why}`;
      throw new OperationError("cell-claim", text);
    }
    const action = takeover.pollAction(now());
    if (action !== undefined) await answer(takeover, action, options, now);
    else await sleep(Math.max(0, (takeover.pollTimeout() ?? now()) - now()));
  }
}

async function answer(
  takeover: Takeover,
  action: TakeoverAction,
  { cloud, log }: ClaimOptions,
  now: () => Instant,
): Promise<void> {
  if (action.kind === "heartbeat") {
    // Outside of a launch there is no hook to keep alive.
    await cloud.heartbeat("launchHook").catch(() => {});
    return;
  }
  try {
    if (action.kind === "find") return takeover.handleFound(await cloud.findInterface(), now());
    log.info(`cell-${action.kind}`, { part: action.part, force: action.kind === "detach" && action.force });
    if (action.kind === "attach") await cloud.attach(action.part);
    else await cloud.detach(action.part, action.force);
    takeover.handleDone(action, now());
  } catch (error) {
    const refusal: Refusal = refusalOf(error);
    const said = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    log.info("cell-refused", { action: action.kind, part: action.part, refusal, said });
    takeover.handleRefused(action, refusal, said, now());
  }
}

function partsOf({ ingressInterfaceId, identityVolumeId }: Cell): readonly Part[] {
  const parts: (Part | undefined)[] = [
    ingressInterfaceId === undefined ? undefined : "interface",
    identityVolumeId === undefined ? undefined : "volume",
  ];
  return parts.filter((part) => part !== undefined);
}

function volumeIsHere({ identityVolumeId: id }: Cell): boolean {
  if (id === undefined) return false;
  return existsSync(`/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${id.replaceAll("-", "")}`);
}
