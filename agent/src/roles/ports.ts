/** The tunnel's device and socket, opened for the data plane where that can be. */
import { OperationError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { type DataPlaneHost, type HostOptions, startDataPlane, whyNoDataPlane } from "../dataplane/host.ts";
import type { FastPath } from "../engine/fast-path.ts";
import { closeDescriptors } from "../io/descriptors.ts";
import { createMemoryDevice } from "../io/memory-tun.ts";
import { OWN_MARK } from "../io/router.ts";
import { openTun, openTunDescriptor, type PacketDevice, whyNoTun } from "../io/tun.ts";
import { bindUdp, openUdpDescriptors, type UdpSocket } from "../io/udp.ts";

export interface Ports {
  readonly udp: UdpSocket;
  readonly device: PacketDevice;
  readonly fastPath: FastPath | undefined;
}

export interface PortsOptions {
  /** UDP; 0 is any that is free. */
  readonly port: number;
  /** Name of the TUN device, or "memory" for none in the kernel. */
  readonly tun: string;
  readonly mtu: number;
  /** Threads that move packets. @default as many as suit the processors */
  readonly workers?: number | undefined;
  /** Takes the place of the UDP socket. */
  readonly openUdp?: ((port: number) => Promise<UdpSocket>) | undefined;
  readonly env: HostOptions["env"];
  readonly log: Log;
  readonly onFatal: (error: OperationError) => void;
}

export interface OpenedPorts extends Ports {
  readonly dataPlane: DataPlaneHost | undefined;
  readonly whyNoDataPlane: string | undefined;
  /** What the engine does without: a sentence each. */
  readonly fallbacks: readonly string[];
}

/** The data plane takes care of the device and the socket where it can. @throws OperationError */
export async function openPorts(options: PortsOptions): Promise<OpenedPorts> {
  const { tun, openUdp, port, mtu, log } = options;
  const isOther = tun === "memory" || openUdp !== undefined;
  const fast = isOther ? (whyNoTun() ?? "no kernel device") : await tryFastPorts(options);
  if (typeof fast !== "string") return { ...fast, whyNoDataPlane: undefined, fallbacks: [] };
  log.info("data-plane", { workers: 0, why: fast });
  const udp = await (openUdp?.(port) ?? bindUdp({ port, ...(tun === "memory" ? {} : { mark: OWN_MARK }) }));
  try {
    const device = tun === "memory" ? createMemoryDevice() : await openTun({ name: tun, mtu });
    const slow = { fastPath: undefined, dataPlane: undefined, whyNoDataPlane: fast };
    return { udp, device, ...slow, fallbacks: withoutCalls(log) };
  } catch (error) {
    await udp.close();
    throw error;
  }
}

/** What there is instead of C functions. */
function withoutCalls(log: Log): readonly string[] {
  const why = whyNoTun();
  if (why === undefined) return [];
  log.warn("no-tun-device", {
    why,
    message: "no traffic of this host enters the tunnel; pings are answered",
  });
  return [`datagrams one by one by node:dgram: ${why}`, `a device in memory, none in the kernel: ${why}`];
}

/** Why not, where the data plane can not be had. @throws OperationError where the device or the port can not */
async function tryFastPorts(
  options: PortsOptions,
): Promise<(Ports & { readonly dataPlane: DataPlaneHost }) | string> {
  const { env, log } = options;
  const why = whyNoDataPlane(env);
  if (why !== undefined) return why;
  try {
    const ports = await openFastPorts({ ...options, mark: OWN_MARK });
    const { counters: _, fallbacks, ...ways } = ports.dataPlane.status;
    log.info("data-plane", { ...ways, fallbacks: fallbacks.join("; ") });
    return ports;
  } catch (error) {
    if (error instanceof OperationError && error.code === "dataplane") return error.message;
    throw error;
  }
}

interface FastPortsOptions {
  readonly port: number;
  readonly tun: string;
  readonly mtu: number;
  readonly workers?: number | undefined;
  /** SO_MARK of every packet sent. */
  readonly mark: number;
  readonly env: HostOptions["env"];
  readonly onFatal: (error: OperationError) => void;
}

/** @throws OperationError */
async function openFastPorts(
  options: FastPortsOptions,
): Promise<Ports & { readonly dataPlane: DataPlaneHost }> {
  const { port, tun: name, mtu, workers, mark, env, onFatal } = options;
  const udp = openUdpDescriptors({ port, mark, gro: env["SALLYPORT_NO_GRO"] !== "1" });
  const opened = [udp.v4, udp.v6];
  try {
    const tun = openTunDescriptor({ name, mtu, offload: env["SALLYPORT_NO_TUN_OFFLOAD"] !== "1" });
    opened.push(tun.fd);
    const dataPlane = await startDataPlane({ mtu, tun, udp, workers, env, onFatal });
    return { udp: dataPlane.udp, device: dataPlane.device, fastPath: dataPlane, dataPlane };
  } catch (error) {
    closeDescriptors(opened);
    throw error;
  }
}
