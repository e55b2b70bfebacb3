/** A tunnel to plain WireGuard peers, without coordination server and relays. */
import { IpPort, Prefix } from "../base/address.ts";
import type { OperationError } from "../base/errors.ts";
import { clampPrivateKey, DiscoPrivate, KEY_LENGTH } from "../base/keys.ts";
import type { Log } from "../base/log.ts";
import { randomBytes } from "../base/random.ts";
import type { MapNode, NetMap } from "../core/control/net-map.ts";
import { emptyDerpMap } from "../core/path/derp-map.ts";
import { Node } from "../engine/node.ts";
import { systemCalendar } from "../io/calendar.ts";
import { resolveHost } from "../io/dns.ts";
import { NodeDriver } from "../io/node-driver.ts";
import { nodeSuite } from "../io/node-suite.ts";
import { systemRandom } from "../io/random.ts";
import { routerFor } from "../io/router.ts";
import type { WireGuardFile, WireGuardFilePeer } from "../io/wireguard-file.ts";
import { openPorts } from "./ports.ts";
import { checkSwitches } from "./switches.ts";

export interface PlainTunnelOptions {
  readonly file: WireGuardFile;
  /** Name of the TUN device, or "memory" for none in the kernel. */
  readonly tun: string;
  readonly log: Log;
}

/** @throws OperationError where the device, the port or an endpoint's name can not be had */
export async function startPlainTunnel(options: PlainTunnelOptions): Promise<{ close(): Promise<void> }> {
  checkSwitches(process.env);
  const { file, tun, log } = options;
  const peers = await Promise.all(file.peers.map(peerNode));
  const { mtu, listenPort } = file;
  const onFatal = die(log);
  const ports = await openPorts({ port: listenPort, tun, mtu, log, env: process.env, onFatal });
  const { udp, device, fastPath } = ports;
  device.onLost?.(onFatal);
  const node = new Node({
    ...{ suite: nodeSuite, random: systemRandom, calendar: systemCalendar, mtu },
    nodeKey: file.privateKey,
    discoKey: new DiscoPrivate(clampPrivateKey(randomBytes(systemRandom, KEY_LENGTH))),
    sessions: fastPath?.sessions,
    flows: fastPath?.flows,
    openRelayed: fastPath === undefined ? undefined : (message) => fastPath.openRelayed(message),
    ...{ localPort: udp.localPort, portIsFixed: true, explicit: [] },
  });
  const dial = (): Promise<never> => Promise.reject(new Error("there are no relays"));
  const driver = new NodeDriver({ node, udp, device, fastPath, log, dial, onEvent: () => {} });
  const router = routerFor(device);
  const close = async (): Promise<void> => {
    driver.close();
    await router.cleanup().catch(() => {});
    await Promise.allSettled([device.close(), udp.close()]);
  };
  try {
    driver.input((at) => node.handleNetMap(mapOf(node, file, peers), at));
    const routes = peers.flatMap(({ allowedIps }) => allowedIps);
    await router.apply({ addresses: file.addresses, routes, mtu });
  } catch (error) {
    await close();
    throw error;
  }
  log.info("wireguard-up", { port: udp.localPort, peers: peers.length });
  return { close };
}

function die(log: Log): (error: OperationError) => void {
  return (error) => {
    log.error(error.code, { message: error.message });
    setImmediate(() => {
      throw error;
    });
  };
}

/** WireGuard itself filters by source addresses only. */
const ALLOW_ALL = [{ SrcIPs: ["*"], DstPorts: [{ IP: "*", Ports: { First: 0, Last: 65_535 } }] }];
const EVERYWHERE = ["0.0.0.0/0", "::/0"].map(Prefix.parse);

function mapOf(node: Node, file: WireGuardFile, peers: readonly MapNode[]): NetMap {
  const self = {
    ...EMPTY,
    id: 1,
    key: node.publicKey,
    addresses: EVERYWHERE,
    allowedIps: file.addresses.map(Prefix.host),
  };
  return {
    self,
    peers: peers.map((peer, i) => ({ ...peer, id: i + 2 })),
    derpMap: emptyDerpMap,
    packetFilter: ALLOW_ALL,
    domain: "",
    users: new Map(),
    magicDnsSuffix: "",
  };
}

async function peerNode(peer: WireGuardFilePeer): Promise<MapNode> {
  const { publicKey, allowedIps, endpoint, presharedKey, persistentKeepalive } = peer;
  const [address] = endpoint === undefined ? [] : await resolveHost(endpoint.host, endpoint.port);
  const plain = {
    endpoint: address && new IpPort(address.ip, address.port),
    presharedKey,
    persistentKeepalive,
  };
  return { ...EMPTY, key: publicKey, allowedIps, plain };
}

const EMPTY: Omit<MapNode, "key"> = {
  ...{ id: 0, stableId: "", name: "", machine: undefined, discoKey: undefined },
  ...{ addresses: [], allowedIps: [], endpoints: [], homeRegion: undefined },
  ...{ user: 0, hostname: "", os: "", tags: [], online: undefined, lastSeen: undefined },
  ...{ keyExpiry: undefined, expired: false, cap: 0, primaryRoutes: [], created: undefined },
};
