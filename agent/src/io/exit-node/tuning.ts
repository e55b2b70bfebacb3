/**
 * Settings of interfaces that make forwarding cheaper, where the machine has them. What can not be set stays as it is: it costs
 * speed, nothing else.
 */
import { readFile } from "node:fs/promises";
import type { Log } from "../../base/log.ts";
import { run } from "./command.ts";

/** One of them, for people. */
export interface Tuned {
  readonly what: string;
  readonly was: string;
  readonly is: string;
  readonly why: string;
}

const GRO = "rx-udp-gro-forwarding";
const GRO_WHY = "datagrams that are carried for others pass the kernel in bunches";
/** Packets that may wait for us at the tunnel's device: 20 ms of a gigabit in full frames. */
const QUEUE_LENGTH = 2_000;
const QUEUE_WHY = "a burst waits instead of being dropped";

export class Tuning {
  readonly #log: Log;
  #tuned: readonly Tuned[] = [];
  #changed: string[] = [];
  #devices = "";

  constructor(log: Log) {
    this.#log = log;
  }

  get tuned(): readonly Tuned[] {
    return this.#tuned;
  }

  /** Never throws. Does nothing where it was done for these devices. @param interfaces that carry the traffic */
  async apply(tunnel: string, interfaces: readonly string[]): Promise<void> {
    const devices = [tunnel, ...interfaces].join(" ");
    if (devices === this.#devices) return;
    this.#devices = devices;
    const tuned = [await tuneQueue(tunnel)];
    for (const name of new Set(interfaces)) {
      const one = await tuneGro(name);
      tuned.push(one);
      if (one.was === "off" && one.is === "on") this.#changed.push(name);
    }
    this.#tuned = tuned;
    for (const { what, was, is } of tuned) this.#log.debug("tuned", { what, was, is });
  }

  /** The tunnel's device goes with its settings. */
  async restore(): Promise<void> {
    this.#devices = "";
    for (const device of this.#changed.splice(0))
      await run("ethtool", ["-K", device, GRO, "off"]).catch(() => {});
  }
}

async function tuneQueue(device: string): Promise<Tuned> {
  const what = `${device} txqueuelen`;
  const was = await readFile(`/sys/class/net/${device}/tx_queue_len`, "latin1").then(
    (text) => text.trim(),
    () => "",
  );
  if (was === "" || Number(was) >= QUEUE_LENGTH) return { what, was, is: was, why: QUEUE_WHY };
  const set = await run("ip", ["link", "set", "dev", device, "txqueuelen", `${QUEUE_LENGTH}`]);
  return { what, was, is: set.code === 0 ? `${QUEUE_LENGTH}` : was, why: QUEUE_WHY };
}

async function tuneGro(device: string): Promise<Tuned> {
  const what = `${device} ${GRO}`;
  try {
    const was = await gro(device);
    if (was !== "off") return { what, was, is: was, why: GRO_WHY };
    await run("ethtool", ["-K", device, GRO, "on", "rx-gro-list", "off"]);
    return { what, was, is: await gro(device), why: GRO_WHY };
  } catch {
    return { what, was: "unknown", is: "unknown", why: `${GRO_WHY}; install ethtool for it` };
  }
}

/** "on", "off", or "off [fixed]" where the driver can not. */
async function gro(device: string): Promise<string> {
  const { stdout } = await run("ethtool", ["-k", device]);
  return new RegExp(`^${GRO}: (.*)$`, "m").exec(stdout)?.[1]?.trim() ?? "unknown";
}
