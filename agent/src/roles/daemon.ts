/**
 * The daemon: keeps this device in the mesh, and answers the commands over its socket.
 *
 * Holds what outlives `up` and `down`: the keys and preferences (in the state directory),
 * the socket, and the one tunnel there may be.
 */
import { hostname as systemHostname } from "node:os";
import type { IpPort } from "../base/address.ts";
import { OperationError, UsageError } from "../base/errors.ts";
import { clampPrivateKey, DiscoPrivate, KEY_LENGTH, MachinePrivate, NodePrivate } from "../base/keys.ts";
import type { Log } from "../base/log.ts";
import { randomBytes } from "../base/random.ts";
import { millis, seconds } from "../base/time.ts";
import type { ControlState } from "../core/control/client.ts";
import { type DerpMap, derpMapToJson } from "../core/path/derp-map.ts";
import { BASE_MTU } from "../core/path/path-mtu.ts";
import type { NetMap } from "../core/control/net-map.ts";
import type { Suite } from "../crypto/suite.ts";
import type {
  LocalBackend,
  PingReply,
  PingRequest,
  PrefsRequest,
  UpEvent,
  UpRequest,
} from "../health/local-backend.ts";
import type { MetricsInput } from "../health/metrics.ts";
import { namedRegions, type NetcheckReply, netcheckReportJson } from "../health/netcheck-json.ts";
import { nodeState, type NodeState } from "../health/node-tags.ts";
import { type HealthProblem, worstFirst } from "../health/reasons.ts";
import { buildStatus } from "../health/status.ts";
import type { BackendState, DataPlaneJson, StatusJson } from "../health/status-json.ts";
import { findTarget, shortName } from "../health/target.ts";
import { systemCalendar } from "../io/calendar.ts";
import { now } from "../io/clock.ts";
import { HealthCheck } from "../io/health-check.ts";
import type { HealthTagsMode, Listen } from "../io/config.ts";
import { localAddresses } from "../io/local-addresses.ts";
import { serveLocalApi } from "../io/local-api-server.ts";
import { nodeSuite } from "../io/node-suite.ts";
import { systemRandom } from "../io/random.ts";
import {
  type DaemonState,
  defaultPrefs,
  keptRelayMapPath,
  loadDaemonState,
  saveDaemonState,
  writeFileAtomic,
} from "../io/state-store.ts";
import type { ForwardingChoices } from "../io/exit-node/forwarding-choices.ts";
import type { UdpSocket } from "../io/udp.ts";
import type { DataPlaneHost } from "../dataplane/host.ts";
import { VERSION } from "../base/version.ts";
import { Queue } from "./event-queue.ts";
import { startMetrics } from "./metrics.ts";
import { startHealthTags } from "./health-tags.ts";
import { openPorts, type Ports } from "./ports.ts";
import { routerFor } from "../io/router.ts";
import { changedPrefs } from "./prefs.ts";
import { checkSwitches } from "./switches.ts";
import { SYSTEM, Tunnel } from "./tunnel.ts";
import { noKernelDevice } from "./tunnel-routing.ts";

export interface DaemonOptions extends Partial<ForwardingChoices> {
  /** UDP; 0 is any that is free. */
  readonly port: number;
  /** Name of the TUN device, or "memory" for none in the kernel. */
  readonly tun: string;
  /** Of the tunnel, in bytes. @default 1280, as stock peers have it */
  readonly mtu?: number | undefined;
  /** Threads that move packets. @default as many as suit the processors */
  readonly workers?: number | undefined;
  readonly stateDir: string;
  /** Path of the Unix socket that the commands use. */
  readonly socket: string;
  readonly log: Log;
  /** Endpoints that this node offers besides those it finds. */
  readonly endpoints?: readonly IpPort[] | undefined;
  /** TCP port that is open while the node is up, for a load balancer. @default none */
  readonly healthCheckPort?: number | undefined;
  /** Everything runs on one machine: offer loopback addresses, too. @default false */
  readonly loopback?: boolean;
  /** Takes the place of the UDP socket. */
  readonly openUdp?: (port: number) => Promise<UdpSocket>;
  /** With a server the tunnel comes up at once, unless `down` was said since. */
  readonly loginServer: string | undefined;
  readonly authKey: string | undefined;
  readonly certPin: string | undefined;
  readonly hostname: string | undefined;
  readonly advertiseExitNode: boolean | undefined;
  /** Whether to write how it is to the tags of this EC2 instance. @default "off" */
  readonly healthTags?: HealthTagsMode;
  readonly advertiseRoutes?: readonly string[] | undefined;
  readonly forwardAccept?: readonly string[] | undefined;
  readonly acceptRoutes?: boolean | undefined;
  readonly exitNode?: string | undefined;
  readonly exitNodeAllowLanAccess?: boolean | undefined;
  readonly exitNodeDns?: readonly string[] | undefined;
  /** Where /metrics is. @default "off" */
  readonly metrics?: Listen | "off";
  /** Where CloudWatch's embedded metrics go. @default "off" */
  readonly embeddedMetrics?: number | "stdout" | "off";
}

export interface Daemon {
  readonly backend: LocalBackend;
  close(): Promise<void>;
}

/**
 * @throws UsageError where a variable says what it can not
 * @throws OperationError where the state, the socket, the device or the port can not be used
 */
export async function startDaemon(options: DaemonOptions): Promise<Daemon> {
  checkSwitches(process.env);
  const stored = await loadDaemonState(options.stateDir);
  const service = new DaemonService(options, stored ?? newState());
  if (stored === undefined) await service.save();
  const api = await serveLocalApi({ path: options.socket, backend: service, log: options.log });
  try {
    await service.begin(stored !== undefined);
  } catch (error) {
    await Promise.allSettled([service.stop(), api.close()]);
    throw error;
  }
  const tags = await startHealthTags({
    ...{ mode: options.healthTags ?? "off", stateDir: options.stateDir, log: options.log },
    read: () => service.nodeState(),
  });
  const metrics = await startMetrics({
    ...{ listen: options.metrics ?? "off", embedded: options.embeddedMetrics ?? "off", log: options.log },
    read: () => service.metrics(),
  });
  return { backend: service, close: () => closeAll([tags, metrics, api, { close: () => service.stop() }]) };
}

/** A little more than a check takes at most. */
const NETCHECK_LIMIT = seconds(6);

function mtuOf({ mtu }: DaemonOptions): number {
  return mtu ?? BASE_MTU;
}

async function closeAll(parts: readonly { close(): Promise<void> }[]): Promise<void> {
  await Promise.allSettled(parts.map((part) => part.close()));
}

function newState(): DaemonState {
  return {
    machineKey: new MachinePrivate(newPrivateKey()),
    nodeKey: new NodePrivate(newPrivateKey()),
    loginServer: undefined,
    prefs: defaultPrefs,
  };
}

function newPrivateKey(): Uint8Array {
  return clampPrivateKey(randomBytes(systemRandom, KEY_LENGTH));
}

class DaemonService implements LocalBackend {
  readonly #options: DaemonOptions;
  readonly #suite: Suite = nodeSuite;
  readonly #healthCheck: HealthCheck | undefined;
  readonly #followers = new Set<Queue<UpEvent>>();
  #state: DaemonState;
  #tunnel: Tunnel | undefined;
  #dataPlane: DataPlaneHost | undefined;
  #whyNoDataPlane: string | undefined;
  #engineFallbacks: readonly string[] = [];
  #authUrl: string | undefined;
  #lastError: string | undefined;
  /** One change of the tunnel after the other. */
  #changing: Promise<void> = Promise.resolve();

  constructor(options: DaemonOptions, state: DaemonState) {
    this.#options = options;
    this.#state = state;
    const { healthCheckPort, log } = options;
    this.#healthCheck = healthCheckPort === undefined ? undefined : new HealthCheck(healthCheckPort, log);
  }

  async save(): Promise<void> {
    await saveDaemonState(this.#options.stateDir, this.#state);
  }

  /** Goes on where the last run ended, or with what the command line says. */
  async begin(registeredBefore: boolean): Promise<void> {
    const { loginServer } = this.#options;
    const isNew = loginServer !== undefined && loginServer !== this.#state.loginServer;
    if (isNew || this.#state.prefs.wantRunning) await this.#raise(this.#options, registeredBefore);
    else await this.#sweep();
  }

  async stop(): Promise<void> {
    await this.#lower();
  }

  status(): StatusJson {
    const tunnel = this.#tunnel;
    const at = now();
    return buildStatus({
      version: VERSION,
      hostname: this.#state.prefs.hostname ?? systemHostname(),
      os: SYSTEM,
      tun: this.#options.tun !== "memory",
      backendState: this.#backendState(),
      haveNodeKey: this.#state.loginServer !== undefined,
      authUrl: this.#authUrl,
      health: this.#problems().map(({ text }) => text),
      netMap: tunnel?.netMap,
      connected: tunnel?.state === "running",
      ownEndpoints: tunnel?.ownEndpoints ?? [],
      homeRegion: tunnel?.homeRegion,
      peers: tunnel?.peers() ?? [],
      exitNode: tunnel?.exitNode,
      dataPlane: tunnel === undefined ? undefined : this.#dataPlaneJson(),
      forwarding: tunnel?.forwarding,
      now: at,
      wallNow: systemCalendar.now(),
    });
  }

  /** What the health tags say. */
  nodeState(): NodeState {
    const { Proven: proven, SeenEgress: seen } = this.#tunnel?.forwarding ?? {
      Proven: false,
      SeenEgress: "",
    };
    return nodeState(this.status(), this.#problems(), proven && seen !== "" ? seen : undefined);
  }

  metrics(): Omit<MetricsInput, "memory" | "cpuSeconds"> {
    return { status: this.status(), problems: this.#problems(), engine: this.#tunnel?.counters() };
  }

  async ping({ target, timeoutMs }: PingRequest): Promise<PingReply> {
    const tunnel = this.#tunnel;
    const netMap = tunnel?.netMap;
    if (tunnel === undefined || netMap === undefined) return { kind: "not-running", text: this.#stateText() };
    const found = findTarget(netMap, target);
    if (found.kind === "no-match") return { kind: "no-match" };
    const ip = found.ip.text;
    if (found.kind === "local") return { kind: "local", ip };
    const pong = await tunnel.ping(found.node.key, millis(timeoutMs));
    if (pong === undefined) return { kind: "timeout", ip };
    const { via, rtt } = pong;
    return {
      kind: "pong",
      name: shortName(found.node, netMap.magicDnsSuffix),
      ip,
      via:
        via.kind === "direct"
          ? { kind: "direct", endpoint: via.to.text }
          : { kind: "derp", code: netMap.derpMap.regions.get(via.region)?.code ?? String(via.region) },
      latencyMs: rtt,
    };
  }

  async netcheck(): Promise<NetcheckReply | undefined> {
    const tunnel = this.#tunnel;
    const derpMap = tunnel?.netMap?.derpMap;
    if (tunnel === undefined || derpMap === undefined) return undefined;
    const report = await tunnel.netcheck(NETCHECK_LIMIT);
    if (report === undefined) return undefined;
    const osHasIpv6 = localAddresses({ loopback: true }).some(({ isV4 }) => !isV4);
    return {
      report: netcheckReportJson(report, { at: systemCalendar.now(), osHasIpv6 }),
      regions: namedRegions(derpMap),
      buffers: tunnel.socketBuffers,
    };
  }

  async *up(request: UpRequest, gone?: AbortSignal): AsyncIterable<UpEvent> {
    const events = new Queue<UpEvent>();
    this.#followers.add(events);
    const leave = (): void => events.push({ kind: "failed", code: "gone", message: "nobody listens" });
    gone?.addEventListener("abort", leave, { once: true });
    const timer =
      request.timeoutMs > 0 ? setTimeout(() => this.#giveUp(events), request.timeoutMs) : undefined;
    try {
      await this.#raise(request, true);
      for await (const event of events) {
        yield event;
        if (event.kind === "running" || event.kind === "failed") return;
      }
    } finally {
      clearTimeout(timer);
      gone?.removeEventListener("abort", leave);
      this.#followers.delete(events);
    }
  }

  set(request: PrefsRequest): Promise<void> {
    return this.#change(async () => {
      const prefs = changedPrefs(this.#state.prefs, request);
      await this.#tunnel?.usePrefs(prefs);
      this.#state = { ...this.#state, prefs };
      await this.save();
    });
  }

  async down(): Promise<void> {
    this.#state = { ...this.#state, prefs: { ...this.#state.prefs, wantRunning: false } };
    await this.save();
    const hadTunnel = this.#tunnel !== undefined;
    await this.#lower();
    if (!hadTunnel) await this.#sweep();
  }

  async logout(): Promise<void> {
    const tunnel = this.#tunnel;
    if (tunnel === undefined && this.#state.loginServer !== undefined) {
      throw new OperationError("not-up", "log out needs the coordination server: run `sallyport up` first");
    }
    await tunnel?.logout();
    await this.#lower();
    this.#state = { ...newState(), machineKey: this.#state.machineKey };
    await this.save();
  }

  /** Takes a running tunnel down where settings change, and brings it up. */
  #raise(request: Partial<UpRequest>, registeredBefore: boolean): Promise<void> {
    return this.#change(async () => {
      const { loginServer = this.#state.loginServer } = request;
      if (loginServer === undefined) {
        throw new UsageError("no-login-server", "no coordination server is known: give --login-server URL");
      }
      const former = this.#state;
      const sameServer = former.loginServer === loginServer;
      const prefs = {
        ...changedPrefs(former.prefs, request),
        wantRunning: true,
        certPin: request.certPin ?? (sameServer ? former.prefs.certPin : undefined),
      };
      if (prefs.exitNode !== undefined && this.#options.tun === "memory") throw noKernelDevice();
      this.#lastError = undefined;
      await this.#closeTunnel({ hold: prefs.exitNode !== undefined });
      await this.#openTunnel(
        { ...former, loginServer, prefs },
        request.authKey,
        registeredBefore && sameServer,
      );
      this.#state = { ...former, loginServer, prefs };
      await this.save();
    });
  }

  #lower(): Promise<void> {
    return this.#change(() => this.#closeTunnel());
  }

  /** Takes back what a tunnel that is no more told the kernel, such as one whose process was killed. */
  async #sweep(): Promise<void> {
    const { tun: name } = this.#options;
    if (name !== "memory" && process.getuid?.() === 0) await routerFor({ kind: "tun", name }).cleanup();
  }

  #change(act: () => Promise<void>): Promise<void> {
    const done = this.#changing.then(act);
    this.#changing = done.catch(() => {});
    return done;
  }

  async #closeTunnel(options: { readonly hold?: boolean } = {}): Promise<void> {
    const tunnel = this.#tunnel;
    this.#tunnel = undefined;
    this.#dataPlane = undefined;
    this.#authUrl = undefined;
    await this.#healthCheck?.close();
    await tunnel?.close(options);
  }

  async #openTunnel(
    state: DaemonState,
    authKey: string | undefined,
    registeredBefore: boolean,
  ): Promise<void> {
    const { port, log, endpoints = [], loopback = false } = this.#options;
    const { loginServer = "", prefs } = state;
    const ports = await this.#openPorts();
    const { udp, device } = ports;
    try {
      this.#tunnel = new Tunnel({
        suite: this.#suite,
        loginServer,
        certPin: prefs.certPin,
        authKey,
        registeredBefore,
        hostname: systemHostname(),
        prefs,
        forwarding: this.#options,
        socket: this.#options.socket,
        machineKey: state.machineKey,
        nodeKey: state.nodeKey,
        discoKey: new DiscoPrivate(newPrivateKey()),
        udp,
        portIsFixed: port !== 0,
        device,
        mtu: mtuOf(this.#options),
        fastPath: ports.fastPath,
        explicitEndpoints: endpoints,
        loopback,
        log,
        on: {
          state: (control) => this.#followState(control),
          authUrl: (url) => {
            this.#authUrl = url;
            this.#tell({ kind: "auth-url", url });
          },
          nodeKey: (nodeKey) => void this.#useNodeKey(nodeKey),
          error: (message, fatal) => this.#noteError(message, fatal),
          running: (netMap) => {
            this.#healthCheck?.open();
            this.#tellRunning(netMap);
          },
          lost: (error) => this.#die(error),
          relayMap: (derpMap) => void this.#keepRelayMap(derpMap),
        },
      });
    } catch (error) {
      await Promise.allSettled([udp.close(), device.close()]);
      throw error;
    }
  }

  #dataPlaneJson(): DataPlaneJson {
    const status = this.#dataPlane?.status;
    return {
      Workers: status?.workers ?? 0,
      ...(this.#whyNoDataPlane === undefined ? {} : { Why: this.#whyNoDataPlane }),
      Aead: status?.aead ?? "node-crypto",
      TunOffload: status?.tunOffload ?? "none",
      UdpSegmentation: status?.udpSegmentation ?? false,
      UdpReceiveOffload: status?.udpReceiveOffload ?? false,
      Fallbacks: status?.fallbacks ?? this.#engineFallbacks,
      Counters: status?.counters ?? {},
    };
  }

  async #openPorts(): Promise<Ports> {
    const { port, tun, workers, openUdp, log } = this.#options;
    const mtu = mtuOf(this.#options);
    const onFatal = (error: OperationError): void => this.#die(error);
    const ports = await openPorts({ port, tun, mtu, workers, openUdp, log, env: process.env, onFatal });
    this.#dataPlane = ports.dataPlane;
    this.#whyNoDataPlane = ports.whyNoDataPlane;
    this.#engineFallbacks = ports.fallbacks;
    return ports;
  }

  /** Without the thread that moves the packets there is no tunnel: systemd starts the daemon anew. */
  #die(error: OperationError): void {
    this.#options.log.error(error.code, { message: error.message });
    setImmediate(() => {
      throw error;
    });
  }

  /** The old node key has expired: the tunnel goes on under the new one. */
  async #useNodeKey(nodeKey: NodePrivate): Promise<void> {
    this.#state = { ...this.#state, nodeKey };
    try {
      await this.save();
      await this.#raise({}, true);
    } catch (error) {
      this.#noteError(error instanceof Error ? error.message : String(error), true);
    }
  }

  #followState(state: ControlState): void {
    if (state === "running") {
      this.#authUrl = undefined;
      this.#lastError = undefined;
    }
  }

  #noteError(message: string, fatal: boolean): void {
    this.#lastError = message;
    this.#tell(fatal ? { kind: "failed", code: "control", message } : { kind: "warning", text: message });
  }

  /** For a network check while no tunnel is up. */
  async #keepRelayMap(derpMap: DerpMap): Promise<void> {
    const path = keptRelayMapPath(this.#options.stateDir);
    await writeFileAtomic(path, `${JSON.stringify(derpMapToJson(derpMap))}\n`).catch((error: unknown) =>
      this.#options.log.warn("relay-map-not-kept", { message: String(error) }),
    );
  }

  #tellRunning(netMap: NetMap): void {
    const { self, magicDnsSuffix } = netMap;
    const ips = self.addresses.map(({ ip }) => ip.text);
    this.#tell({ kind: "running", name: shortName(self, magicDnsSuffix), ips });
  }

  #tell(event: UpEvent): void {
    for (const follower of this.#followers) follower.push(event);
  }

  #giveUp(follower: Queue<UpEvent>): void {
    const why = this.#lastError === undefined ? "" : `: ${this.#lastError}`;
    follower.push({ kind: "failed", code: "timeout", message: `the tunnel is not up in time${why}` });
  }

  #backendState(): BackendState {
    const tunnel = this.#tunnel;
    if (tunnel === undefined) return this.#state.loginServer === undefined ? "NeedsLogin" : "Stopped";
    if (this.#authUrl !== undefined || tunnel.state === "needs-login" || tunnel.state === "expired")
      return "NeedsLogin";
    return tunnel.netMap === undefined ? "Starting" : "Running";
  }

  #stateText(): string {
    switch (this.#backendState()) {
      case "NeedsLogin":
        return "Logged out.";
      case "Stopped":
        return "Sallyport is stopped.";
      default:
        return "Sallyport is starting.";
    }
  }

  #problems(): readonly HealthProblem[] {
    const problems = this.#tunnel?.health() ?? [];
    if (this.#lastError === undefined) return worstFirst(problems);
    return worstFirst([...problems, { reason: "error", text: this.#lastError }]);
  }
}
