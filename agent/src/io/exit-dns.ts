/**
 * Names while an exit node is used: no question leaves beside the tunnel, and none goes to a server that the exit node
 * does not reach.
 *
 * /etc/resolv.conf is never written. Where programs ask the servers that it names, questions to those in local networks
 * are redirected on their way (`exit-rules.ts`); others go out by the exit node as they are. Where they ask
 * systemd-resolved, it is told to ask through the tunnel.
 */
import { Ip, type Prefix } from "../base/address.ts";
import { runProgram } from "./command.ts";
import type { SystemDns } from "./system-dns.ts";

/**
 * Asked through the tunnel where this machine's own servers can not be: Quad9, which keeps no record of who asked
 * (https://quad9.net/service/service-addresses-and-features).
 */
export const DEFAULT_EXIT_DNS: readonly Ip[] = [Ip.parse("9.9.9.9"), Ip.parse("2620:fe::fe")];

/** Servers for programs that ask through the tunnel: this machine's own where an exit node reaches them. */
export function serversThroughTunnel(
  system: SystemDns,
  local: readonly Prefix[],
  substitutes: readonly Ip[],
): readonly Ip[] {
  const isElsewhere = (ip: Ip): boolean =>
    !ip.isPrivate && !ip.isLinkLocal && !local.some((network) => network.contains(ip));
  const own = system.servers.filter(isElsewhere);
  return own.length > 0 ? own : substitutes;
}

/** What systemd-resolved is told of the tunnel's device. */
export class ResolvedLink {
  readonly #device: string;
  readonly #command: string;
  #told = "";

  /** @param command the program that talks to systemd-resolved */
  constructor(device: string, command = "resolvectl") {
    this.#device = device;
    this.#command = command;
  }

  /** All names are asked for at these servers; none is back to what was. Returns false where it does not listen. */
  async use(servers: readonly Ip[]): Promise<boolean> {
    const told = servers.join(" ");
    if (told === this.#told) return true;
    this.#told = told;
    if (servers.length === 0) return await this.#run("revert", this.#device);
    const steps = [
      ["dns", this.#device, ...servers.map(({ text }) => text)],
      ["domain", this.#device, "~."],
      ["default-route", this.#device, "yes"],
    ];
    for (const step of steps) {
      if (await this.#run(...step)) continue;
      this.#told = "";
      return false;
    }
    return true;
  }

  #run(...args: readonly string[]): Promise<boolean> {
    const absent = { code: "no-resolved", remedy: "install systemd-resolved" };
    return runProgram(this.#command, args, { absent }).then(
      ({ code }) => code === 0,
      () => false,
    );
  }
}
