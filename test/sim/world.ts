/**
 * Named hosts in the simulated internet, a coordination server that tells each of the
 * others, and the ledger of what was sent and what arrived.
 */
import { Ip, IpPort, Prefix } from "../../agent/src/base/address.ts";
import { clampPrivateKey, DiscoPrivate, NodePrivate } from "../../agent/src/base/keys.ts";
import { randomBytes, type Random } from "../../agent/src/base/random.ts";
import { after, type Instant, instant, type Millis, millis, wallTime } from "../../agent/src/base/time.ts";
import type { MapNode, NetMap } from "../../agent/src/core/control/net-map.ts";
import { DerpServer } from "../../agent/src/core/derp/server.ts";
import { buildUdp } from "../../agent/src/core/ip/build.ts";
import { parsePacket, payloadOf } from "../../agent/src/core/ip/packet.ts";
import type { DerpMap, DerpRegion } from "../../agent/src/core/path/derp-map.ts";
import { type Path, type RegionId, regionId } from "../../agent/src/core/path/path.ts";
import { nodeSuite } from "../../agent/src/io/node-suite.ts";
import { Node, type NodeEvent } from "../../agent/src/engine/node.ts";
import { type Firewall, type Host, Internet } from "./internet.ts";
import { Nat, type NatBehaviour } from "./nat.ts";
import { seededRandom } from "./random.ts";
import { PlanedNode } from "./planed-node.ts";

export interface HostOptions {
  /** @default a public address */
  readonly nat?: NatBehaviour;
  /** @default false */
  readonly udpBlocked?: boolean;
  /** @default none */
  readonly firewall?: Firewall;
  /** One way to the middle of the network, in milliseconds. @default 5 */
  readonly latency?: number;
  /** As a stock peer's: 8,128. @default ours */
  readonly replayWindow?: number;
  /** Of its tunnel device. @default 1280 */
  readonly mtu?: number;
  /** Of its link, in bytes with IP. @default any length passes */
  readonly linkMtu?: number;
  /** With a data plane beside the engine. @default false */
  readonly plane?: boolean;
}

export interface RelayOptions {
  readonly code: string;
  readonly id: number;
  /** One way from the middle of the network, in milliseconds. */
  readonly latency: number;
}

/** One data packet that arrived. */
export interface Arrival {
  readonly from: string;
  readonly to: string;
  readonly sequence: number;
  readonly at: Instant;
}

/** A peer's path as a host saw it change. */
export interface Move {
  readonly host: string;
  readonly peer: string;
  readonly to: Path | undefined;
  readonly at: Instant;
}

interface Member {
  readonly host: Host;
  readonly options: HostOptions;
  readonly nodeKey: NodePrivate;
  map: MapNode;
}

const TUNNEL_PORT = 41_641;
const DATA_PORT = 9;
const UDP_HEADER = 8;
/** One way to the coordination server. */
const CONTROL_LATENCY: Millis = millis(10);
const MTU = 1280;
const NYC: RelayOptions = { code: "nyc", id: 900, latency: 40 };

export class World {
  readonly net: Internet;
  readonly arrivals: Arrival[] = [];
  readonly moves: Move[] = [];
  readonly pongs: {
    readonly host: string;
    readonly via: Path;
    readonly rtt: Millis;
    readonly at: Instant;
  }[] = [];
  readonly sentAt = new Map<string, Instant>();
  readonly #random: Random;
  readonly #members = new Map<string, Member>();
  readonly #derpMap: DerpMap;
  readonly #stun = new Map<RegionId, readonly IpPort[]>();
  readonly #lateMaps = new Map<Host, Instant>();
  #nextId = 1;

  constructor(seed: number, relays: readonly RelayOptions[] = [NYC]) {
    this.#random = seededRandom(seed);
    this.net = new Internet(this.#random, {
      packet: (host, packet, now) => this.#arrived(host, packet, now),
      event: (host, event, now) => this.#noted(host, event, now),
    });
    this.#derpMap = {
      regions: new Map(relays.map((relay) => this.#addRelay(relay))),
      regionScore: new Map(),
    };
  }

  addHost(name: string, options: HostOptions = {}): Host {
    const id = this.#nextId++;
    const outside = Ip.parse(`203.0.113.${id}`);
    const nat = options.nat === undefined ? undefined : new Nat(outside, options.nat);
    const inside = new IpPort(nat === undefined ? outside : Ip.parse(`192.168.${id}.2`), TUNNEL_PORT);
    const nodeKey = new NodePrivate(this.#privateKey());
    const node = this.#newNode(nodeKey, options);
    const latency = millis(options.latency ?? 5);
    const host: Host = {
      name,
      node,
      inside,
      nat,
      latency,
      udpBlocked: options.udpBlocked ?? false,
      firewall: options.firewall,
      mtu: options.linkMtu,
    };
    this.net.addHost(host);
    this.#members.set(name, { host, options, nodeKey, map: mapNode(id, name, node) });
    return host;
  }

  /**
   * The host's program ends and starts again: same node key, new disco key, no session.
   * @param late how much later than the others it gets the map itself, in milliseconds
   */
  restart(host: Host, { late = 0 } = {}): void {
    const member = this.#members.get(host.name);
    if (member === undefined) return;
    this.net.endStreams(host);
    host.node = this.#newNode(member.nodeKey, member.options);
    this.#lateMaps.set(host, after(this.net.now, millis(2 * CONTROL_LATENCY + late)));
    this.#tell(member, { discoKey: host.node.discoKey });
    this.run(millis(2 * CONTROL_LATENCY));
    host.node.handleInterfaces([host.inside.ip], this.net.now);
    host.node.handleStunServers(this.#stun, this.net.now);
  }

  /** All hosts join: they get the map, ask STUN, choose a home. Runs until that is done. */
  join(): void {
    this.#publish();
    for (const { host } of this.#members.values()) {
      host.node.handleInterfaces([host.inside.ip], this.net.now);
      host.node.handleStunServers(this.#stun, this.net.now);
    }
    this.run(millis(6_000));
    this.arrivals.length = 0;
    this.moves.length = 0;
  }

  run(wait: Millis): void {
    this.net.run(after(this.net.now, wait));
  }

  /** An IP packet with a number in it, from one host's tunnel device to another's tailnet address. */
  send(from: Host, to: Host, sequence: number, length = 228): void {
    const payload = new Uint8Array(length - 28);
    new DataView(payload.buffer).setUint32(0, sequence);
    const packet = buildUdp(
      new IpPort(tailnetIp(this.#id(from)), DATA_PORT),
      new IpPort(tailnetIp(this.#id(to)), DATA_PORT),
      payload,
    );
    this.sentAt.set(`${from.name} ${to.name} ${sequence}`, this.net.now);
    from.node.handlePacket(packet, this.net.now);
  }

  /** Sends a packet every `gap` for `length`, numbered from `first`, while the world runs. Returns how many. */
  stream(from: Host, to: Host, options: { first: number; gap: number; length: number }): number {
    const count = Math.floor(options.length / options.gap);
    for (let i = 0; i < count; i++) {
      const at = instant(this.net.now + i * options.gap);
      this.net.schedule(at, () => this.send(from, to, options.first + i));
    }
    this.run(millis(options.length));
    return count;
  }

  /** The path that a packet from `from` to `to` takes now. */
  pathOf(from: Host, to: Host): "direct" | "relay" {
    const status = from.node
      .status(this.net.now)
      .find(({ node }) => node.key.text === to.node.publicKey.text);
    return status?.directAddress === undefined ? "relay" : "direct";
  }

  /** How long a packet from `from` to `to` may be now. */
  mtuOf(from: Host, to: Host): number {
    const status = from.node.status(this.net.now);
    return status.find(({ node }) => node.key.text === to.node.publicKey.text)?.mtu ?? 0;
  }

  /** Numbers that arrived at `to`, in order of arrival. */
  received(from: Host, to: Host): readonly number[] {
    return this.arrivals
      .filter((arrival) => arrival.from === from.name && arrival.to === to.name)
      .map(({ sequence }) => sequence);
  }

  #addRelay({ code, id, latency }: RelayOptions): [RegionId, DerpRegion] {
    const region = regionId(id);
    const stun = new IpPort(Ip.parse(`198.51.100.${id % 256}`), 3478);
    const server = new DerpServer({
      suite: nodeSuite,
      random: this.#random,
      serverKey: new NodePrivate(this.#privateKey()),
    });
    this.net.addRelay({ region, server, serverKey: server.publicKey, stun, latency: millis(latency) });
    this.#stun.set(region, [stun]);
    return [region, { id: region, code, name: code, avoid: false, noMeasureNoHome: false, nodes: [] }];
  }

  #newNode(nodeKey: NodePrivate, { replayWindow, plane, mtu = MTU }: HostOptions): Node {
    return new (plane === true ? PlanedNode : Node)({
      suite: nodeSuite,
      random: this.#random,
      calendar: { now: () => wallTime(1_790_000_000_000 + this.net.now) },
      nodeKey,
      discoKey: new DiscoPrivate(this.#privateKey()),
      mtu,
      localPort: TUNNEL_PORT,
      portIsFixed: true,
      explicit: [],
      ...(replayWindow === undefined ? {} : { replayWindow }),
    });
  }

  #privateKey(): Uint8Array {
    return clampPrivateKey(randomBytes(this.#random, 32));
  }

  #id(host: Host): number {
    return this.#members.get(host.name)?.map.id ?? 0;
  }

  #publish(): void {
    for (const { host, map } of this.#members.values()) {
      const peers = [...this.#members.values()]
        .filter((member) => member.host !== host)
        .map((member) => member.map);
      const netMap: NetMap = {
        self: map,
        peers,
        derpMap: this.#derpMap,
        packetFilter: ALLOW_ALL,
        domain: "sim.example",
        users: new Map(),
        magicDnsSuffix: "sim.example",
      };
      const due = Math.max(after(this.net.now, CONTROL_LATENCY), this.#lateMaps.get(host) ?? 0);
      this.net.schedule(instant(due), (now) => host.node.handleNetMap(netMap, now));
    }
  }

  #noted(host: Host, event: NodeEvent, now: Instant): void {
    const member = this.#members.get(host.name);
    if (member === undefined) return;
    switch (event.kind) {
      case "endpoints":
        this.#tell(member, { endpoints: event.endpoints.map(({ address }) => address) });
        break;
      case "home":
        this.#tell(member, { homeRegion: event.region });
        break;
      case "moved": {
        const peer = [...this.#members.values()].find(({ map }) => map.key.text === event.peer.text);
        this.moves.push({ host: host.name, peer: peer?.host.name ?? "?", to: event.to, at: now });
        break;
      }
      case "pong":
        this.pongs.push({ host: host.name, via: event.via, rtt: event.rtt, at: now });
        break;
      default:
        break;
    }
  }

  #tell(member: Member, change: Partial<MapNode>): void {
    this.net.schedule(after(this.net.now, CONTROL_LATENCY), () => {
      member.map = { ...member.map, ...change };
      this.#publish();
    });
  }

  #arrived(host: Host, packet: Uint8Array, now: Instant): void {
    const parsed = parsePacket(packet);
    if (typeof parsed === "string") throw new Error(`a damaged packet left the tunnel: ${parsed}`);
    const source = Ip.fromBytes(parsed.bytes.subarray(12, 16)).text;
    const from = [...this.#members.values()].find(({ map }) => tailnetIp(map.id).text === source);
    const data = payloadOf(parsed).subarray(UDP_HEADER);
    const sequence = new DataView(data.buffer, data.byteOffset).getUint32(0);
    this.arrivals.push({ from: from?.host.name ?? "?", to: host.name, sequence, at: now });
  }
}

const ALLOW_ALL = [{ SrcIPs: ["*"], DstPorts: [{ IP: "*", Ports: { First: 0, Last: 65_535 } }] }];

function tailnetIp(id: number): Ip {
  return Ip.parse(`100.64.0.${id}`);
}

function mapNode(id: number, name: string, node: Node): MapNode {
  const address = Prefix.host(tailnetIp(id));
  return {
    id,
    stableId: `n${id}`,
    name: `${name}.sim.example.`,
    key: node.publicKey,
    machine: undefined,
    discoKey: node.discoKey,
    addresses: [address],
    allowedIps: [address],
    endpoints: [],
    homeRegion: undefined,
    user: 1,
    hostname: name,
    os: "linux",
    tags: [],
    online: true,
    lastSeen: undefined,
    keyExpiry: undefined,
    expired: false,
    cap: 113,
    primaryRoutes: [],
    created: undefined,
  };
}
