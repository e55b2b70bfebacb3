/** Packets of a lab, for those who look for the reason when a scenario has failed. */
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Lab } from "../lab.ts";
import type { LabProcess } from "../processes.ts";

/** Enough for all headers, and for the kind of a tunnel's message. */
const SNAP_BYTES = 128;
/** Of each file: the first packets are those that matter. */
const MOST_PACKETS = 200_000;

export class Captures {
  readonly #running: readonly LabProcess[];

  /** Begins on the internet's router and in every machine, where tcpdump is installed. */
  constructor(lab: Lab) {
    if (spawnSync("tcpdump", ["--version"]).error !== undefined) {
      this.#running = [];
      return;
    }
    const folder = join(lab.folder, "captures");
    mkdirSync(folder, { mode: 0o700 });
    const places = ["internet", ...lab.topology.cast.nodes.map(({ namespace }) => namespace)];
    this.#running = places.map((namespace) =>
      lab.start(namespace, {
        name: `${namespace}-tcpdump`,
        command: [
          ...["tcpdump", "--interface=any", "-n", "-U", `--snapshot-length=${SNAP_BYTES}`],
          ...[`-c${MOST_PACKETS}`, "-Zroot", "-w", join(folder, `${namespace}.pcap`)],
        ],
      }),
    );
  }

  async stop(): Promise<void> {
    await Promise.all(this.#running.map((one) => one.stop()));
  }
}
