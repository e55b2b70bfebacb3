/**
 * One stretch of the tunnel being up: the socket, the device, the engine, the relays and the
 * stream of the coordination server, from `up` to `down`.
 */
import { setImmediate as nextTurn, setTimeout as wait } from "node:timers/promises";
import { type IpPort, Prefix } from "../base/address.ts";
import type { DiscoPrivate, MachinePrivate, NodePrivate, NodePublic } from "../base/keys.ts";
import type { Log } from "../base/log.ts";
import type { Millis } from "../base/time.ts";
import type { DerpMap, DerpRegion } from "../core/path/derp-map.ts";
import type { NetMap } from "../core/control/net-map.ts";
import type { Hostinfo, NetInfo } from "../core/control/messages.ts";
import type { ControlState } from "../core/control/client.ts";
import { netInfoOf, type NetcheckReport } from "../core/netcheck/report.ts";
import type { Path, RegionId } from "../core/path/path.ts";
import type { Suite } from "../crypto/suite.ts";
import type { ForwardingJson } from "../health/status-json.ts";
import type { EngineCounters } from "../health/metrics.ts";
import type { HealthProblem } from "../health/reasons.ts";
import { Node, type NodeEvent, type PeerStatus } from "../engine/node.ts";
import { rehearse } from "../engine/rehearsal.ts";
import { systemCalendar } from "../io/calendar.ts";
import { now } from "../io/clock.ts";
import { ControlSession } from "../io/control-client.ts";
import { localAddresses, watchLocalAddresses } from "../io/local-addresses.ts";
import { localNetworks } from "../io/local-networks.ts";
import { NodeDriver } from "../io/node-driver.ts";
import { systemRandom } from "../io/random.ts";
import { dialRelay, measureRelay } from "../io/relay-client.ts";
import type { FastPath } from "../engine/fast-path.ts";
import type { RelayConnection } from "../io/relay-stream.ts";
import type { ForwardingChoices } from "../io/exit-node/forwarding-choices.ts";
import { resolveStunServers } from "../io/stun-addresses.ts";
import type { DaemonPrefs } from "../io/state-store.ts";
import type { PacketDevice } from "../io/tun.ts";
import type { UdpSocket } from "../io/udp.ts";
import { TunnelForwarding } from "./tunnel-forwarding.ts";
import { MarkedNetwork, type OwnNetwork } from "../io/own-network.ts";
import { OWN_MARK } from "../io/router.ts";
import type { OperationError } from "../base/errors.ts";
import { acceptingFirewallsOf, routableIps } from "./prefs.ts";
import { TunnelRouting } from "./tunnel-routing.ts";

/** After the home relay is up: whatever a start still has to do comes first. */
const REHEARSE_AFTER_MS = 100;
/** More make it hardly faster: the first costs 100 ms of CPU, the last 10. */
const SCENES = 16;

/** What the control protocol calls the system that this runs on. */
export const SYSTEM = process.platform === "darwin" ? "macOS" : process.platform;

export interface TunnelOptions {
  readonly suite: Suite;
  readonly loginServer: string;
  readonly certPin: string | undefined;
  readonly authKey: string | undefined;
  /** This machine and node key were registered before. */
  readonly registeredBefore: boolean;
  readonly hostname: string;
  readonly prefs: DaemonPrefs;
  /** How the traffic of others leaves. */
  readonly forwarding: Partial<ForwardingChoices>;
  /** Of the daemon. */
  readonly socket: string;
  readonly machineKey: MachinePrivate;
  readonly nodeKey: NodePrivate;
  readonly discoKey: DiscoPrivate;
  readonly udp: UdpSocket;
  /** The port was asked for, so a router may forward it to us. */
  readonly portIsFixed: boolean;
  readonly device: PacketDevice;
  /** Of the device, in bytes. Towards each peer only what its path and its own tunnel carry is used of it. */
  readonly mtu: number;
  /** Moves packets beside the engine. */
  readonly fastPath: FastPath | undefined;
  /** Endpoints that the operator tells. */
  readonly explicitEndpoints: readonly IpPort[];
  /** Offer loopback addresses too: everything runs on one machine. */
  readonly loopback: boolean;
  readonly log: Log;
  readonly on: TunnelEvents;
}

export interface TunnelEvents {
  state(state: ControlState): void;
  authUrl(url: string): void;
  nodeKey(nodeKey: NodePrivate): void;
  /** One sentence for people. `fatal`: it will not mend itself. */
  error(message: string, fatal: boolean): void;
  running(netMap: NetMap): void;
  relayMap(derpMap: DerpMap): void;
  /** The device is gone: there is no tunnel any more. */
  lost(error: OperationError): void;
}

export interface PongReceived {
  readonly via: Path;
  readonly rtt: Millis;
}

export class Tunnel {
  readonly #options: TunnelOptions;
  readonly #node: Node;
  readonly #driver: NodeDriver;
  readonly #session: ControlSession;
  readonly #routing: TunnelRouting;
  /** Beside the tunnel, where a kernel device could catch what is ours. */
  readonly #network: OwnNetwork | undefined;
  readonly #forwarding: TunnelForwarding;
  readonly #watch: { close(): void };
  readonly #waiting = new Map<string, (pong: PongReceived) => void>();
  #prefs: DaemonPrefs;
  /** Who waits for a report. */
  readonly #checks = new Set<(report: NetcheckReport | undefined) => void>();
  #netMap: NetMap | undefined;
  #state: ControlState = "stopped";
  #netInfo: NetInfo = {};
  #rehearsed = false;
  #closed = false;

  constructor(options: TunnelOptions) {
    const { suite, udp, device, log, nodeKey, discoKey, fastPath } = options;
    this.#options = options;
    this.#node = new Node({
      suite,
      random: systemRandom,
      calendar: systemCalendar,
      nodeKey,
      discoKey,
      mtu: options.mtu,
      sendsWhole: udp.sendWhole !== undefined,
      sessions: fastPath?.sessions,
      flows: fastPath?.flows,
      openRelayed: fastPath === undefined ? undefined : (message) => fastPath.openRelayed(message),
      localPort: udp.localPort,
      portIsFixed: options.portIsFixed,
      explicit: options.explicitEndpoints,
    });
    this.#driver = new NodeDriver({
      node: this.#node,
      udp,
      device,
      fastPath,
      log,
      dial: (region, signal) => this.#dial(region, signal),
      onEvent: (event) => this.#handleEvent(event),
    });
    const { forwarding: choices, socket } = options;
    const interfaces = { exclude: [device.name], loopback: options.loopback };
    const lookAtInterfaces = (): void =>
      this.#driver.input((at) => this.#node.handleInterfaces(localAddresses(interfaces), at));
    this.#forwarding = new TunnelForwarding({
      ...{ device, port: udp.localPort, choices, socket, log },
      onRouted: () => {
        lookAtInterfaces();
        this.#letThrough();
      },
    });
    device.onLost?.((error) => options.on.lost(error));
    this.#network = device.kind === "tun" ? new MarkedNetwork({ mark: OWN_MARK }) : undefined;
    this.#prefs = options.prefs;
    this.#routing = new TunnelRouting({
      ...{ device, log, mtu: options.mtu, prefs: options.prefs },
      wish: (wishes) => this.#driver.input((at) => this.#node.handleRouteWishes(wishes, at)),
      ask: async (key, within) => (await this.ping(key, within)) !== undefined,
    });
    this.#carry();
    this.#session = this.#openSession();
    lookAtInterfaces();
    this.#watch = watchLocalAddresses((addresses) => {
      log.info("addresses-changed", { count: addresses.length });
      this.#driver.input((at) => this.#node.handleInterfaces(addresses, at));
      this.#routing.handleInterfaces();
      this.#carry();
    }, interfaces);
    const begin = (): void => {
      if (!this.#closed) this.#session.start();
    };
    this.#routing.begin().then(begin, (error: unknown) => {
      options.on.error(messageOf(error), true);
      begin();
    });
  }

  /** `stableId` of the peer that all other traffic goes out by. */
  get exitNode(): string | undefined {
    return this.#routing.exitNode?.stableId;
  }

  /** Takes effect at once. @throws UsageError, OperationError, and then nothing has changed */
  async usePrefs(prefs: DaemonPrefs): Promise<void> {
    await this.#routing.usePrefs(prefs);
    this.#prefs = prefs;
    this.#carry();
    const { Hostname, RoutableIPs = [] } = this.#hostinfo();
    this.#session.updateHostinfo({ Hostname: Hostname ?? "", RoutableIPs });
  }

  get netMap(): NetMap | undefined {
    return this.#netMap;
  }

  get state(): ControlState {
    return this.#state;
  }

  get homeRegion(): RegionId | undefined {
    return this.#node.homeRegion;
  }

  /** What `status` says of the node itself. */
  get ownEndpoints(): readonly IpPort[] {
    return this.#node.endpoints.map(({ address }) => address);
  }

  /** What was counted since the tunnel came up. */
  counters(): EngineCounters {
    const { traffic, drops, homeUp, report } = this.#node;
    const latencies = [...(report?.regionLatency ?? [])].map(([id, latency]) => [this.#codeOf(id), latency]);
    return {
      ...{ traffic, drops, homeUp, udp: report?.udp },
      latencies: Object.fromEntries(latencies) as Readonly<Record<string, number>>,
    };
  }

  peers(): readonly PeerStatus[] {
    return this.#node.status(now());
  }

  /** Of a node that carries the traffic of others. */
  get forwarding(): ForwardingJson | undefined {
    return this.#forwarding.status();
  }

  /** What keeps connections from being as good as they could be. */
  health(): readonly HealthProblem[] {
    const problems: HealthProblem[] = [];
    if (this.#state !== "running") {
      const text = "The coordination server can not be reached; the last map is in use.";
      problems.push({ reason: "control-lost", text });
    }
    if (this.#node.homeRegion !== undefined && !this.#node.homeUp) {
      const text = `The home relay "${this.#codeOf(this.#node.homeRegion)}" can not be reached.`;
      problems.push({ reason: "relay-lost", text });
    }
    if (this.#node.report?.udp === false) {
      problems.push({ reason: "udp-blocked", text: "UDP is blocked: every connection stays on a relay." });
    }
    const unreached = this.#node.unreachedAt(this.#forwarding.publicAddresses);
    if (unreached !== undefined && this.#state === "running") {
      const text = `Peers of several networks try ${unreached.text} in vain, so their connections stay on a relay: let UDP ${unreached.port} in.`;
      problems.push({ reason: "port-closed", text });
    }
    return [...problems, ...this.#routing.problems(), ...this.#forwarding.problems()];
  }

  /** Asks a peer once by the path in use. `undefined` when no answer came within `timeout`. */
  ping(key: NodePublic, timeout: Millis): Promise<PongReceived | undefined> {
    const txId = this.#driver.input((at) => this.#node.ping(key, at));
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        if (txId !== undefined) this.#waiting.delete(txId);
        resolve(undefined);
      }, timeout);
      if (txId === undefined) return;
      this.#waiting.set(txId, (pong) => {
        clearTimeout(timer);
        resolve(pong);
      });
    });
  }

  /** Asks the relays anew. `undefined` when that was not over within `timeout`. */
  netcheck(timeout: Millis): Promise<NetcheckReport | undefined> {
    return new Promise((resolve) => {
      const done = (report: NetcheckReport | undefined): void => {
        clearTimeout(timer);
        this.#checks.delete(done);
        resolve(report);
      };
      const timer = setTimeout(() => done(this.#node.report), timeout);
      this.#checks.add(done);
      if (!this.#driver.input((at) => this.#node.netcheck(at))) done(this.#node.report);
    });
  }

  get socketBuffers(): UdpSocket["buffers"] {
    return this.#options.udp.buffers;
  }

  /** Gives up the registration. */
  async logout(): Promise<void> {
    await this.#session.logout();
  }

  /**
   * Takes everything down; what the kernel was told is taken back.
   * @param hold lets nothing out beside the tunnel until another one is up, where an exit node is used
   */
  async close({ hold = false } = {}): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch.close();
    this.#driver.close();
    await Promise.allSettled([
      this.#session.close(),
      this.#forwarding.close(),
      this.#routing.close(hold && this.#prefs.exitNode !== undefined),
    ]);
    await Promise.allSettled([this.#options.device.close(), this.#options.udp.close()]);
  }

  #openSession(): ControlSession {
    const { suite, loginServer, certPin, authKey, machineKey, nodeKey, registeredBefore, log, on } =
      this.#options;
    return new ControlSession({
      serverUrl: loginServer,
      certPin,
      machineKey,
      nodeKey,
      discoKey: this.#node.discoKey,
      authKey,
      registeredBefore,
      hostinfo: this.#hostinfo(),
      network: this.#network,
      suite,
      random: systemRandom,
      log,
      callbacks: {
        onNetMap: (netMap) => this.#useNetMap(netMap),
        onState: (state) => {
          this.#state = state;
          on.state(state);
        },
        onAuthUrl: (url) => on.authUrl(url),
        onNodeKey: (key) => on.nodeKey(key),
        onError: (message, { fatal }) => on.error(message, fatal),
      },
    });
  }

  #hostinfo(): Hostinfo {
    const routes = routableIps(this.#prefs);
    return {
      OS: SYSTEM,
      Hostname: this.#prefs.hostname ?? this.#options.hostname,
      IPNVersion: "sallyport",
      BackendLogID: "",
      ...(routes.length > 0 ? { RoutableIPs: routes } : {}),
    };
  }

  #useNetMap(netMap: NetMap): void {
    const former = this.#netMap;
    this.#netMap = netMap;
    this.#driver.input((at) => this.#node.handleNetMap(netMap, at));
    if (former?.derpMap !== netMap.derpMap) {
      this.#options.on.relayMap(netMap.derpMap);
      void this.#findStunServers(netMap);
    }
    this.#routing.handleNetMap(netMap).then(
      () => {
        if (former === undefined) this.#options.on.running(netMap);
      },
      (error: unknown) => {
        this.#options.on.error(messageOf(error), true);
      },
    );
  }

  async #findStunServers({ derpMap }: NetMap): Promise<void> {
    const servers = await resolveStunServers(derpMap, this.#network);
    if (this.#closed) return;
    this.#driver.input((at) => this.#node.handleStunServers(servers, at));
    this.#forwarding.handleStunServers([...servers.values()].flat());
  }

  async #dial(region: RegionId, signal: AbortSignal): Promise<RelayConnection> {
    return await dialRelay({ region: this.#regionOf(region), signal, ...this.#byNetwork });
  }

  #carry(): void {
    const { advertiseExitNode, advertiseRoutes } = this.#prefs;
    const accept = acceptingFirewallsOf(this.#prefs);
    void this.#forwarding.offer({ exitNode: advertiseExitNode, routes: advertiseRoutes, accept });
    this.#letThrough();
  }

  /** What the packet filter lets through for others. An exit node's own networks are no part of the internet. */
  #letThrough(): void {
    const routes = this.#forwarding.isReady ? routableIps(this.#prefs).map(Prefix.parse) : [];
    const excluded = localNetworks(this.#options.device.name);
    this.#driver.input(() => this.#node.handleCarried({ routes, excluded }));
  }

  get #byNetwork(): { readonly network?: OwnNetwork } {
    return this.#network === undefined ? {} : { network: this.#network };
  }

  #regionOf(id: RegionId): DerpRegion {
    const region = this.#netMap?.derpMap.regions.get(id);
    if (region === undefined) throw new Error(`region ${id} is not in the relay map`);
    return region;
  }

  #codeOf(id: RegionId): string {
    return this.#netMap?.derpMap.regions.get(id)?.code ?? String(id);
  }

  #handleEvent(event: NodeEvent): void {
    const { log } = this.#options;
    switch (event.kind) {
      case "endpoints":
        this.#session.updateEndpoints(
          event.endpoints.map(({ address, type }) => ({ endpoint: address, type })),
        );
        break;
      case "report":
        for (const done of [...this.#checks]) done(event.report);
        this.#forwarding.handleSeenPort(event.report.globalV4);
        this.#routing.handleReport(event.report);
        this.#tellNetInfo({ ...netInfoOf(event.report, { osHasIpv6: undefined }) });
        break;
      case "home":
        log.info("home-relay", { region: event.region });
        this.#tellNetInfo({});
        break;
      case "measure-https":
        for (const region of event.regions) void this.#measure(region);
        break;
      case "moved":
        log.info("path-moved", { peer: event.peer.short, to: event.to?.kind ?? "none" });
        break;
      case "pong":
        this.#waiting.get(event.txId)?.(event);
        this.#waiting.delete(event.txId);
        break;
      case "up":
        log.info("relay-up", { region: event.region });
        if (!this.#rehearsed) void this.#rehearse();
        break;
      case "down":
      case "dial":
      case "hang-up":
        break;
    }
  }

  /** So that the first packet to a peer does not wait for the compiler. */
  async #rehearse(): Promise<void> {
    this.#rehearsed = true;
    await wait(REHEARSE_AFTER_MS);
    const parts = { suite: this.#options.suite, random: systemRandom, calendar: systemCalendar };
    for (let scene = 0; scene < SCENES; scene++) {
      for (const _ of rehearse(parts)) {
        await nextTurn();
        if (this.#closed) return;
      }
    }
    this.#options.log.debug("rehearsed", {});
  }

  /** The home is the engine's choice, which may be made before anything was measured. */
  #tellNetInfo(measured: NetInfo): void {
    const home = this.#node.homeRegion;
    this.#netInfo = { ...this.#netInfo, ...measured, ...(home === undefined ? {} : { PreferredDERP: home }) };
    this.#session.updateNetInfo(this.#netInfo);
  }

  async #measure(id: RegionId): Promise<void> {
    const latency = await measureRelay({ region: this.#regionOf(id), ...this.#byNetwork }).catch(
      () => undefined,
    );
    if (!this.#closed) this.#driver.input((at) => this.#node.handleHttpsLatency(id, latency, at));
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
