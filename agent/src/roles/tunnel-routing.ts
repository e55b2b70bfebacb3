/**
 * Which traffic goes into the tunnel: finds the exit node that was asked for, tells the engine whose offers are used, and
 * keeps the kernel's rules as they must be.
 *
 * While an exit node is wanted, what is not for the tunnel goes nowhere: before the first map, while the exit node is
 * unknown or silent, and after the death of this process.
 */
import { Ip } from "../base/address.ts";
import { UsageError } from "../base/errors.ts";
import type { NodePublic } from "../base/keys.ts";
import type { Log } from "../base/log.ts";
import { type Millis, seconds } from "../base/time.ts";
import type { MapNode, NetMap } from "../core/control/net-map.ts";
import type { NetcheckReport } from "../core/netcheck/report.ts";
import { ExitChoice } from "../engine/exit-choice.ts";
import { acceptedRoutes, type RouteWishes } from "../engine/peer.ts";
import type { HealthProblem } from "../health/reasons.ts";
import { findTarget, shortName } from "../health/target.ts";
import { now, Wakeup } from "../io/clock.ts";
import { DEFAULT_EXIT_DNS, ResolvedLink, serversThroughTunnel } from "../io/exit-dns.ts";
import type { ExitRouting } from "../io/exit-rules.ts";
import { localNetworks, privateNetworks } from "../io/local-networks.ts";
import { type Router, routerFor, type Routing } from "../io/router.ts";
import type { DaemonPrefs } from "../io/state-store.ts";
import { readSystemDns } from "../io/system-dns.ts";
import type { PacketDevice } from "../io/tun.ts";
import { AUTO } from "./prefs.ts";

export interface TunnelRoutingOptions {
  readonly device: PacketDevice;
  readonly mtu: number;
  readonly prefs: DaemonPrefs;
  readonly log: Log;
  /** Tells the engine whose offers are used. */
  readonly wish: (wishes: RouteWishes) => void;
  /** Asks a peer for a sign of life. */
  readonly ask: (key: NodePublic, within: Millis) => Promise<boolean>;
}

/** How long a sign of life is waited for (`exit-choice.ts`). */
const SIGN_OF_LIFE: Millis = seconds(1);

export class TunnelRouting {
  readonly #options: TunnelRoutingOptions;
  readonly #router: Router;
  readonly #resolved: ResolvedLink;
  readonly #choice = new ExitChoice();
  readonly #wakeup = new Wakeup({ keepAlive: false });
  #prefs: DaemonPrefs;
  #netMap: NetMap | undefined;
  #report: NetcheckReport | undefined;
  #exitNode: MapNode | undefined;
  #problem: string | undefined;
  #restored = 0;
  #closed = false;

  constructor(options: TunnelRoutingOptions) {
    this.#options = options;
    this.#prefs = options.prefs;
    this.#router = routerFor(options.device, {
      onRestored: () => {
        this.#restored++;
        options.log.warn("routes-restored", { times: this.#restored });
      },
      onError: (error) => this.#note(error),
    });
    this.#resolved = new ResolvedLink(options.device.name);
  }

  /** The peer that all other traffic goes out by. */
  get exitNode(): MapNode | undefined {
    return this.#exitNode;
  }

  /** With an exit node asked for, nothing passes beside the tunnel from here on. @throws OperationError */
  async begin(): Promise<void> {
    if (this.#prefs.exitNode !== undefined) await this.#apply();
  }

  /** @throws UsageError, OperationError, and then the former ones are in force */
  async usePrefs(prefs: DaemonPrefs): Promise<void> {
    const former = this.#prefs;
    this.#check(prefs);
    this.#prefs = prefs;
    try {
      await this.#update();
    } catch (error) {
      this.#prefs = former;
      await this.#update().catch(() => {});
      throw error;
    }
  }

  /** @throws OperationError where the kernel does not take it */
  async handleNetMap(netMap: NetMap): Promise<void> {
    this.#netMap = netMap;
    await this.#update();
  }

  handleReport(report: NetcheckReport): void {
    this.#report = report;
    if (this.#prefs.exitNode === AUTO) this.#update().catch((error: unknown) => this.#note(error));
  }

  /** The machine's own addresses changed. */
  handleInterfaces(): void {
    if (this.#prefs.exitNode !== undefined) this.#apply().catch((error: unknown) => this.#note(error));
  }

  problems(): readonly HealthProblem[] {
    const problems: HealthProblem[] = [];
    if (this.#problem !== undefined) problems.push({ reason: "routes-lost", text: this.#problem });
    const { exitNode } = this.#prefs;
    if (exitNode === undefined) return problems;
    if (this.#exitNode === undefined && this.#netMap !== undefined) {
      const text =
        exitNode === AUTO
          ? "No exit node can be reached: traffic is blocked. `sallyport set --exit-node=` lets it out without one."
          : `The exit node "${exitNode}" is not there, or offers none: traffic is blocked. \`sallyport exit-node list\` shows the others.`;
      problems.push({ reason: "exit-node-missing", text });
    } else if (this.#exitNode?.online === false) {
      const text = `The exit node "${exitNode}" is offline: traffic is blocked.`;
      problems.push({ reason: "exit-node-missing", text });
    }
    return problems;
  }

  /** @param hold leaves the kernel as it is, so that nothing gets out before the next tunnel is there */
  async close(hold: boolean): Promise<void> {
    this.#closed = true;
    this.#wakeup.cancel();
    if (hold) return this.#router.release();
    await this.#resolved.use([]);
    await this.#router.cleanup();
  }

  #check({ exitNode }: DaemonPrefs): void {
    const netMap = this.#netMap;
    if (exitNode === undefined) return;
    if (this.#options.device.kind === "memory") throw noKernelDevice();
    if (exitNode === AUTO || netMap === undefined || exitNode === this.#prefs.exitNode) return;
    const found = findTarget(netMap, exitNode);
    const name = JSON.stringify(exitNode);
    if (found.kind === "local") {
      throw new UsageError("exit-node", `${name} is this machine: give --exit-node another one`);
    }
    if (found.kind === "no-match") {
      throw new UsageError("exit-node", `invalid value ${name} for --exit-node; must be IP or peer hostname`);
    }
    if (!offersExit(found.node)) {
      throw new UsageError(
        "exit-node",
        `${shortName(found.node, netMap.magicDnsSuffix)} offers no exit, or nobody approved it: see \`sallyport exit-node list\``,
      );
    }
  }

  /** From what is known now: the exit node, the engine's wishes, the kernel. */
  async #update(): Promise<void> {
    if (this.#closed) return;
    this.#choose();
    this.#options.wish(this.#wishes());
    await this.#apply();
  }

  #choose(): void {
    const { exitNode } = this.#prefs;
    const netMap = this.#netMap;
    if (exitNode === AUTO) {
      this.#drive((at) => this.#choice.handleCandidates(this.#candidates(), at));
      return;
    }
    this.#wakeup.cancel();
    const found = exitNode === undefined || netMap === undefined ? undefined : findTarget(netMap, exitNode);
    this.#exitNode = found?.kind === "peer" && offersExit(found.node) ? found.node : undefined;
  }

  #candidates(): Parameters<ExitChoice["handleCandidates"]>[0] {
    const offers = (this.#netMap?.peers ?? []).filter((node) => offersExit(node) && !node.expired);
    return offers.map(({ key, homeRegion, online }) => ({
      id: key.text,
      latency: homeRegion === undefined ? undefined : this.#report?.regionLatency.get(homeRegion),
      online: online ?? true,
    }));
  }

  /** Gives the choice one input and does what it then wants done. Returns whether it chose another one. */
  #drive(give: (at: ReturnType<typeof now>) => void): boolean {
    const choice = this.#choice;
    give(now());
    for (let id = choice.pollProbe(); id !== undefined; id = choice.pollProbe()) this.#probe(id);
    this.#wakeup.wakeAt(choice.pollTimeout(), () => this.#driveAlone((at) => choice.handleTimeout(at)));
    const former = this.#exitNode;
    this.#exitNode = this.#netMap?.peers.find(({ key }) => key.text === choice.current);
    if (former?.key.text === this.#exitNode?.key.text) return false;
    this.#options.log.info("exit-node", { node: this.#exitNode?.name ?? "none" });
    return true;
  }

  #driveAlone(give: (at: ReturnType<typeof now>) => void): void {
    if (this.#closed || this.#prefs.exitNode !== AUTO) return;
    if (!this.#drive(give)) return;
    this.#options.wish(this.#wishes());
    this.#apply().catch((error: unknown) => this.#note(error));
  }

  #probe(id: string): void {
    const node = this.#netMap?.peers.find(({ key }) => key.text === id);
    if (node === undefined) return;
    void this.#options.ask(node.key, SIGN_OF_LIFE).then((answered) => {
      if (answered) this.#driveAlone((at) => this.#choice.handleAnswer(id, at));
    });
  }

  #wishes(): RouteWishes {
    return { subnets: this.#prefs.acceptRoutes, exitNode: this.#exitNode?.key };
  }

  async #apply(): Promise<void> {
    if (this.#closed) return;
    const { device, mtu } = this.#options;
    const addresses = this.#netMap?.self.addresses.map(({ ip }) => ip) ?? [];
    if ("setAddresses" in device && typeof device.setAddresses === "function") device.setAddresses(addresses);
    const wishes = this.#wishes();
    const peers = this.#netMap?.peers.filter((node) => !node.expired) ?? [];
    const routes = [
      ...new Map(peers.flatMap((node) => acceptedRoutes(node, wishes)).map((p) => [p.text, p])).values(),
    ];
    const routing: Routing = { addresses, routes, mtu, exit: this.#exitRouting() };
    try {
      await this.#router.apply(routing);
      this.#problem = undefined;
    } catch (error) {
      this.#note(error);
      throw error;
    }
    await this.#useDns(routing);
  }

  #exitRouting(): ExitRouting | undefined {
    const { exitNode, exitNodeAllowLanAccess } = this.#prefs;
    if (exitNode === undefined) return undefined;
    const local = localNetworks(this.#options.device.name);
    return { local, allowed: exitNodeAllowLanAccess ? privateNetworks(local) : [], dns: this.#substitutes() };
  }

  #substitutes(): readonly Ip[] {
    const { exitNodeDns } = this.#prefs;
    return exitNodeDns.length > 0 ? exitNodeDns.map(Ip.parse) : DEFAULT_EXIT_DNS;
  }

  async #useDns({ exit, routes }: Routing): Promise<void> {
    const system = readSystemDns();
    if (this.#options.device.kind === "memory" || !system.resolved) return;
    const carried = (ip: Ip): boolean => routes.some((route) => route.isDefault && route.ip.isV4 === ip.isV4);
    const servers =
      exit === undefined ? [] : serversThroughTunnel(system, exit.local, exit.dns).filter(carried);
    if (await this.#resolved.use(servers)) return;
    this.#problem =
      "systemd-resolved does not take the tunnel's DNS servers: names may not be found. Check `resolvectl status`.";
  }

  #note(error: unknown): void {
    this.#problem = error instanceof Error ? error.message : String(error);
    this.#options.log.error("routes", { message: this.#problem });
  }
}

/** An exit for one family at least. */
function offersExit(node: MapNode): boolean {
  return node.allowedIps.some((prefix) => prefix.isDefault);
}

export function noKernelDevice(): UsageError {
  return new UsageError(
    "exit-node-no-device",
    "an exit node needs a kernel device, and this daemon runs with --tun memory: start it with --tun sallyport0 as root",
  );
}
