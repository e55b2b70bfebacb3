/** Writes how this node is to its instance's tags, when health/tag-writer.ts says so. Whatever fails here touches nothing else. */
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import type { Log } from "../base/log.ts";
import type { Random } from "../base/random.ts";
import { formatRfc3339, parseRfc3339 } from "../base/rfc3339.ts";
import { after, type Instant, millis } from "../base/time.ts";
import { lastState, type NodeState, tagsOf } from "../health/node-tags.ts";
import { TagWriter } from "../health/tag-writer.ts";
import { InstanceTags, looksLikeEc2, type TagFailure } from "../io/aws/instance-tags.ts";
import { systemCalendar } from "../io/calendar.ts";
import { now } from "../io/clock.ts";
import type { HealthTagsMode } from "../io/config.ts";
import { systemRandom } from "../io/random.ts";
import { readStateFile, writeFileAtomic } from "../io/state-store.ts";

export interface HealthTagsOptions {
  readonly mode: HealthTagsMode;
  /** Keeps when the last write was, so that a process that is restarted often does not write more often. */
  readonly stateDir: string;
  readonly read: () => NodeState;
  readonly log: Log;
  readonly tags?: InstanceTags;
  /** Spreads the writes of many nodes. @default the system's */
  readonly random?: Random;
}

export interface HealthTags {
  /** Writes the last state; takes seconds at most. */
  close(): Promise<void>;
}

const SAMPLE_EVERY_MS = 2_000;
/** A role has two seconds to end. */
const LAST_WORD_MS = 1_500;
const MIN_GAP_MS = 61_000;
/** What a role may do changes with a deployment; asking costs three calls. */
const CHECK_EVERY_MS = 3_600_000;

export async function startHealthTags(options: HealthTagsOptions): Promise<HealthTags> {
  const { mode } = options;
  if (mode === "off" || (mode === "auto" && !(await looksLikeEc2()))) return { close: async () => {} };
  const [written, checked] = await Promise.all([
    sinceNoted(options.stateDir, WRITTEN),
    sinceNoted(options.stateDir, CHECKED),
  ]);
  const notBefore = written < MIN_GAP_MS ? after(now(), millis(MIN_GAP_MS - written)) : undefined;
  return new HealthTagsLoop(options, notBefore, checked < CHECK_EVERY_MS);
}

class HealthTagsLoop implements HealthTags {
  readonly #options: HealthTagsOptions;
  readonly #tags: InstanceTags;
  readonly #writer: TagWriter<string>;
  readonly #timer: NodeJS.Timeout;
  #busy: Promise<void> = Promise.resolve();
  #checked: boolean;

  constructor(options: HealthTagsOptions, earliest: Instant | undefined, checked: boolean) {
    this.#options = options;
    this.#checked = checked;
    this.#tags = options.tags ?? new InstanceTags();
    this.#writer = new TagWriter(options.random ?? systemRandom, earliest);
    this.#timer = setInterval(() => this.#sample(), SAMPLE_EVERY_MS).unref();
    this.#sample();
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    const last = async (): Promise<void> => {
      await this.#busy;
      this.#writer.handleShutdown(lastState(this.#options.read()));
      this.#pump();
      await this.#busy;
    };
    await Promise.race([last(), wait(LAST_WORD_MS, undefined, { ref: false })]);
    await this.#tags.close();
  }

  #sample(): void {
    this.#writer.handleState(this.#options.read(), now());
    this.#pump();
  }

  #pump(): void {
    const state = this.#writer.pollTransmit();
    if (state !== undefined) this.#busy = this.#write(state);
  }

  async #write(state: NodeState): Promise<void> {
    const tags = tagsOf(state, systemCalendar.now());
    await this.#check(state);
    await note(this.#options.stateDir, WRITTEN);
    const failure = await this.#tags.write(tags);
    const outcome =
      failure === undefined ? ({ ok: true } as const) : { ok: false as const, fault: failure.code };
    this.#writer.handleResult(outcome, now());
    this.#tell(failure);
  }

  #tell(failure: TagFailure | undefined): void {
    const { log } = this.#options;
    for (let event = this.#writer.pollEvent(); event !== undefined; event = this.#writer.pollEvent()) {
      if (event.kind === "recovered") log.info("health-tags-written");
      else log.warn("health-tags-failing", { code: event.fault, message: failure?.message });
    }
  }

  /** Once, and not again in the next hour's runs: whether the role may do this, and nothing more. */
  async #check(state: NodeState): Promise<void> {
    if (this.#checked) return;
    const permission = await this.#tags.permission(tagsOf(state, systemCalendar.now()));
    if (permission === undefined) return;
    this.#checked = true;
    const { log, stateDir } = this.#options;
    await note(stateDir, CHECKED);
    log.info("health-tags-permission", { ...permission });
    if (permission.otherInstances === "allowed" || permission.otherKeys === "allowed") {
      const message =
        "this role may write other tags than the health tags of its own instance: narrow its policy";
      log.warn("health-tags-permission", { message });
    }
  }
}

/** Files that hold when it was done last. */
const WRITTEN = "health-tags-written";
const CHECKED = "health-tags-checked";

async function note(stateDir: string, file: string): Promise<void> {
  await writeFileAtomic(join(stateDir, file), `${formatRfc3339(systemCalendar.now())}\n`).catch(() => {});
}

/** In milliseconds; Infinity where it was never done. */
async function sinceNoted(stateDir: string, file: string): Promise<number> {
  const text = await readStateFile(join(stateDir, file)).catch(() => undefined);
  const at = parseRfc3339(text?.trim() ?? "");
  if (at === undefined) return Infinity;
  const ago = systemCalendar.now() - at;
  // A note from the future says nothing: the clock was set back.
  return ago < 0 ? Infinity : ago;
}
