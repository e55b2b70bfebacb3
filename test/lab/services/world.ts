/**
 * The smallest network in which an instance reaches AWS: the router of its VPC, which holds metadata, DNS and the endpoints, and
 * the instance, with a container behind it.
 *
 *   container 172.17.0.2 ── 172.17.0.1 instance 10.0.1.10 ── 10.0.1.1 router (169.254.169.254, 169.254.169.253, 198.51.100.80)
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  RESOLVER_IP,
  type Services,
  type ServiceOptions,
  startServices,
} from "../../../lab/services/services.ts";
import type { MemoryCloud } from "./memory-cloud.ts";

export const isRoot = process.platform === "linux" && process.getuid?.() === 0;
export const ENDPOINT_IP = "198.51.100.80";

export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class ServiceWorld {
  /** A temporary folder that goes away with the world. */
  readonly folder = mkdtempSync(join(tmpdir(), "sallyport-services-"));
  readonly #prefix = `spsv${process.pid}`;
  #services: Services | undefined;

  constructor() {
    const [router, instance, container] = ["router", "instance", "container"].map((name) => this.netns(name));
    ip([
      ...["router", "instance", "container"].flatMap((name) => [
        `netns add ${this.netns(name)}`,
        `-n ${this.netns(name)} link set lo up`,
      ]),
      `link add eth0 netns ${instance} type veth peer name eni0 netns ${router}`,
      `-n ${router} addr add 10.0.1.1/24 dev eni0`,
      ...["169.254.169.254", RESOLVER_IP, ENDPOINT_IP].map((one) => `-n ${router} addr add ${one}/32 dev lo`),
      `-n ${router} link set eni0 up`,
      `-n ${instance} addr add 10.0.1.10/24 dev eth0`,
      `-n ${instance} link set eth0 up`,
      `-n ${instance} route add default via 10.0.1.1`,
      `link add eth0 netns ${container} type veth peer name docker0 netns ${instance}`,
      `-n ${instance} addr add 172.17.0.1/24 dev docker0`,
      `-n ${instance} link set docker0 up`,
      `-n ${container} addr add 172.17.0.2/24 dev eth0`,
      `-n ${container} link set eth0 up`,
      `-n ${container} route add default via 172.17.0.1`,
    ]);
    const forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
    const masquerade =
      "table ip t { chain c { type nat hook postrouting priority srcnat; oifname eth0 masquerade; }; }";
    spawnSync("ip", ["netns", "exec", instance ?? "", "sh", "-c", `${forward}; nft '${masquerade}'`]);
    for (const name of ["instance", "container"]) {
      mkdirSync(`/etc/netns/${this.netns(name)}`, { recursive: true });
      writeFileSync(`/etc/netns/${this.netns(name)}/resolv.conf`, `nameserver ${RESOLVER_IP}\n`);
    }
  }

  netns(name: string): string {
    return `${this.#prefix}-${name}`;
  }

  async serve(cloud: MemoryCloud, options?: ServiceOptions): Promise<Services> {
    this.#services = await startServices(
      cloud,
      { folder: this.folder, netns: () => this.netns("router") },
      options,
    );
    return this.#services;
  }

  /** Runs a program on the instance, as one that trusts the lab's authority. */
  run(
    command: readonly string[],
    {
      where = "instance",
      env = {},
      input = "",
    }: { readonly where?: string; readonly env?: NodeJS.ProcessEnv; readonly input?: string } = {},
  ): Promise<Ran> {
    return new Promise((resolve, reject) => {
      const child = spawn("ip", ["netns", "exec", this.netns(where), ...command], {
        env: { PATH: process.env["PATH"], ...this.#services?.environment, ...env },
      });
      const said = { stdout: "", stderr: "" };
      child.stdout.on("data", (text) => (said.stdout += String(text)));
      child.stderr.on("data", (text) => (said.stderr += String(text)));
      child.on("error", reject);
      child.on("close", (status) => resolve({ status, ...said }));
      child.stdin.on("error", () => {});
      child.stdin.end(input);
    });
  }

  async close(): Promise<void> {
    await this.#services?.close();
    for (const name of ["router", "instance", "container"]) {
      spawnSync("ip", ["netns", "del", this.netns(name)]);
      rmSync(`/etc/netns/${this.netns(name)}`, { recursive: true, force: true });
    }
    rmSync(this.folder, { recursive: true });
  }
}

/** Lines for `ip -batch`, which can not say `-n` in front. */
function ip(lines: readonly string[]): void {
  for (const line of lines) {
    const { status, stderr } = spawnSync("ip", line.split(" "), { encoding: "utf8" });
    if (status !== 0) throw new Error(`ip ${line}: ${stderr}`);
  }
}
