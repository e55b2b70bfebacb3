/** The agent's programs on the hosts of a lab: where the files of each lie, how they are started, and what they say of themselves. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BUNDLE } from "./bundle.ts";
import type { Lab } from "./lab.ts";
import type { LabProcess } from "./processes.ts";

export interface AgentsOptions {
  readonly lab: Lab;
  /** The folder with the bundle. */
  readonly agent: string;
  /** @default that of the lab */
  readonly env?: Readonly<Record<string, string>>;
}

export class Agents {
  readonly #options: AgentsOptions;

  constructor(options: AgentsOptions) {
    this.#options = options;
  }

  /** Starts a role, with a configuration file of its own: what lies in /etc/sallyport is not the lab's. */
  launch(host: string, role: string, args: readonly string[]): LabProcess {
    const { lab, env } = this.#options;
    const state = this.stateFolder(host);
    writeFileSync(this.#configFile(host), "{}");
    return lab.start(host, {
      name: `${host}-${role}`,
      command: [...this.#program(host, role), "--state-dir", state, ...args],
      ...(env === undefined ? {} : { env }),
    });
  }

  /** `sallyport ARGS` as a command for a host. */
  command(host: string, [command = "", ...args]: readonly string[]): readonly string[] {
    return [...this.#program(host, command), "--socket", this.socket(host), ...args];
  }

  stateFolder(host: string): string {
    const folder = join(this.#options.lab.folder, "state", host);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    return folder;
  }

  socket(host: string): string {
    return join(this.stateFolder(host), "sock");
  }

  #program(host: string, command: string): readonly string[] {
    return [process.execPath, join(this.#options.agent, BUNDLE), command, "--config", this.#configFile(host)];
  }

  #configFile(host: string): string {
    return join(this.stateFolder(host), "agent.json");
  }
}
