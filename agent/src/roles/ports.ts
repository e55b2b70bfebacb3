/** The tunnel's device and socket, opened for the data plane. */
import type { OperationError } from "../base/errors.ts";
import { type DataPlaneHost, type HostOptions, startDataPlane } from "../dataplane/host.ts";
import type { FastPath } from "../engine/fast-path.ts";
import { closeDescriptors } from "../io/descriptors.ts";
import { openTunDescriptor, type PacketDevice } from "../io/tun.ts";
import { openUdpDescriptors, type UdpSocket } from "../io/udp.ts";

export interface Ports {
  readonly udp: UdpSocket;
  readonly device: PacketDevice;
  readonly fastPath: FastPath | undefined;
}

export interface FastPortsOptions {
  readonly port: number;
  readonly tun: string;
  readonly mtu: number;
  /** SO_MARK of every packet sent. */
  readonly mark: number;
  readonly env: HostOptions["env"];
  readonly onFatal: (error: OperationError) => void;
}

/** @throws OperationError */
export async function openFastPorts(
  options: FastPortsOptions,
): Promise<Ports & { readonly dataPlane: DataPlaneHost }> {
  const { port, tun: name, mtu, mark, env, onFatal } = options;
  const udp = openUdpDescriptors({ port, mark, gro: env["SALLYPORT_NO_GRO"] !== "1" });
  const opened = [udp.v4, udp.v6];
  try {
    const tun = openTunDescriptor({ name, mtu, offload: env["SALLYPORT_NO_TUN_OFFLOAD"] !== "1" });
    opened.push(tun.fd);
    const dataPlane = await startDataPlane({ mtu, tun, udp, env, onFatal });
    return { udp: dataPlane.udp, device: dataPlane.device, fastPath: dataPlane, dataPlane };
  } catch (error) {
    closeDescriptors(opened);
    throw error;
  }
}
