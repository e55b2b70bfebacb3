/**
 * One node of the mesh: joins the tunnel, path discovery, the relays, STUN and the packet
 * filter into one machine that knows no socket and no clock.
 *
 *     TUN ──▶ handlePacket ──▶ WireGuard ──▶ path of the peer ──▶ UDP, or the peer's relay
 *     TUN ◀── filter ◀── WireGuard ◀── classify ◀── handleDatagram, relay frames
 *
 * The network map says who the peers are; each peer's `PeerPaths` says which way its
 * packets go; the shell moves the bytes.
 */
import type { Ip, IpPort, Prefix } from "../base/address.ts";
import type { DiscoPrivate, DiscoPublic, NodePrivate, NodePublic } from "../base/keys.ts";
import type { Random } from "../base/random.ts";
import { type Calendar, earliest, type Instant, type Millis, millis, seconds, since } from "../base/time.ts";
import type { MapNode, NetMap } from "../core/control/net-map.ts";
import type { FlowStore } from "../core/filter/flow-table.ts";
import type { NetcheckReport } from "../core/netcheck/report.ts";
import { classify } from "../core/path/classify.ts";
import { BASE_MTU } from "../core/path/path-mtu.ts";
import { direct, type Path, type RegionId, relay } from "../core/path/path.ts";
import type { PathTransmit } from "../core/path/peer-paths.ts";
import type { SessionStore } from "../core/wireguard/counters.ts";
import type { DropReason, WireGuardTransmit } from "../core/wireguard/output.ts";
import { type PeerOptions, WireGuard } from "../core/wireguard/wireguard.ts";
import type { Suite } from "../crypto/suite.ts";
import { Discovery } from "./discovery.ts";
import type { Endpoint } from "./endpoints.ts";
import { type Decision, Decisions, type Passed } from "./fast-path.ts";
import { InnerPackets } from "./inner-packets.ts";
import type { Datagram, Machine } from "./machine.ts";
import { PeerBook } from "./peer-book.ts";
import { Peer, type RouteWishes } from "./peer.ts";
import { Reachability, type ReachabilityEvent, type ReachabilityOptions } from "./reachability.ts";
import { Traffic } from "./traffic.ts";
import { Unreached } from "./unreached.ts";
import { type RelayBytes, type RelayEvent, RelayLinks } from "./relay-links.ts";

/** Packets that wait for a handshake over a slow relay, for each peer. */
const MAX_STAGED = 512;
/** Between two initiations to a peer that started anew and has not answered the first; WireGuard's own gap is 5 s. */
const RENEWAL_GAP: Millis = millis(250);
const RENEWAL_LIMIT: Millis = seconds(10);

export interface NodeOptions extends ReachabilityOptions {
  readonly suite: Suite;
  readonly random: Random;
  readonly calendar: Calendar;
  readonly nodeKey: NodePrivate;
  readonly discoKey: DiscoPrivate;
  /** Of the tunnel device, in bytes. */
  readonly mtu: number;
  /** Whether datagrams can be sent that nobody cuts into fragments; else packets stay within 1,280 bytes. @default true */
  readonly sendsWhole?: boolean;
  /** Counters behind the newest that are still accepted. @default WireGuard's of this program, 65,536 */
  readonly replayWindow?: number;
  /** Of a data plane that takes part; `pollDecision` then says what it has to know. */
  readonly sessions?: SessionStore | undefined;
  /** Likewise: the flows that it opens, too. */
  readonly flows?: FlowStore | undefined;
  /** Likewise: opens a message that came by a relay. Returns false where it is the engine's. */
  readonly openRelayed?: ((message: Uint8Array) => boolean) | undefined;
}

export type NodeEvent =
  | ReachabilityEvent
  | Exclude<RelayEvent, { kind: "packet" }>
  | { readonly kind: "moved"; readonly peer: NodePublic; readonly to: Path | undefined }
  | { readonly kind: "pong"; readonly txId: string; readonly via: Path; readonly rtt: Millis };

export interface Carried {
  readonly routes: readonly Prefix[];
  readonly excluded: readonly Prefix[];
}

/** What `status` says of one peer. */
export interface PeerStatus {
  readonly node: MapNode;
  /** Own traffic within the last 45 s. */
  readonly active: boolean;
  readonly directAddress: IpPort | undefined;
  /** How long a packet in the tunnel to it may be, in bytes. */
  readonly mtu: number;
  readonly txBytes: number;
  readonly rxBytes: number;
  readonly lastWrite: Instant | undefined;
  readonly lastHandshake: Instant | undefined;
}

export class Node implements Machine {
  readonly discoKey: DiscoPublic;
  readonly publicKey: NodePublic;
  readonly #random: Random;
  readonly #wireGuard: WireGuard;
  readonly #discovery: Discovery;
  readonly #links: RelayLinks;
  readonly #reachability: Reachability;
  readonly #peers = new PeerBook();
  readonly #unreached = new Unreached();
  /** Peers whose paths want to be woken. */
  readonly #timed = new Set<Peer>();
  readonly #datagrams: Datagram[] = [];
  readonly #events: NodeEvent[] = [];
  /** Peers to call once STUN has answered. */
  readonly #callsWaiting = new Set<Peer>();
  /** What a data plane is told. */
  readonly #decisions: Decisions | undefined;
  /** What a path may be found to carry. */
  readonly #pathMtu: number;
  #interfaces: readonly Ip[] = [];
  #netMap: NetMap | undefined;
  #carried: Carried = { routes: [], excluded: [] };
  readonly #openRelayed: NodeOptions["openRelayed"];
  readonly traffic = new Traffic();
  readonly drops = { noPeer: 0, malformed: 0, filtered: 0, noPath: 0, tooBig: 0 };
  readonly #inner: InnerPackets;

  constructor(options: NodeOptions) {
    const { suite, random, calendar, nodeKey, discoKey, mtu, replayWindow, sessions } = options;
    this.#decisions = sessions === undefined ? undefined : new Decisions(sessions);
    this.#inner = new InnerPackets(this.drops, options.flows);
    this.#openRelayed = options.openRelayed;
    this.#random = random;
    this.#pathMtu = options.sendsWhole === false ? BASE_MTU : mtu;
    this.#wireGuard = new WireGuard({
      suite,
      random,
      calendar,
      privateKey: nodeKey,
      maxStaged: MAX_STAGED,
      mtu,
      sessions,
      ...(replayWindow === undefined ? {} : { replayWindow }),
    });
    this.#links = new RelayLinks(suite, random, nodeKey);
    this.#reachability = new Reachability(random, options);
    this.publicKey = this.#wireGuard.publicKey;
    const peers = this.#peers;
    this.#discovery = new Discovery({ suite, random, discoKey, nodeKey: this.publicKey, peers });
    this.discoKey = this.#discovery.publicKey;
  }

  /** The network map changed: peers come, go, move and change keys. */
  handleNetMap(netMap: NetMap, now: Instant): void {
    const former = this.#netMap;
    this.#netMap = netMap;
    const present = new Set(netMap.peers.map(({ key }) => key.text));
    for (const peer of this.#peers.retain((key) => present.has(key.text))) this.#dismiss(peer);
    for (const node of netMap.peers) this.#updatePeer(node, now);
    if (former?.packetFilter !== netMap.packetFilter || former?.self !== netMap.self) this.#renewFilter();
    if (former?.derpMap !== netMap.derpMap) this.#reachability.setDerpMap(netMap.derpMap, now);
    this.#settle(now);
  }

  /** Which of the peers' offers are to be used; until then only their own addresses are. */
  handleRouteWishes(wishes: RouteWishes, now: Instant): void {
    this.#peers.wishes = wishes;
    for (const peer of this.#peers.reroute()) this.#tellRoutes(peer, now);
    this.#settle(now);
  }

  /** The networks that this node carries traffic to for others, and those that it never does unless they are named. */
  handleCarried(carried: Carried): void {
    this.#carried = carried;
    if (this.#netMap !== undefined) this.#renewFilter();
  }

  /** The STUN servers of the map's regions, their names resolved. */
  handleStunServers(servers: ReadonlyMap<RegionId, readonly IpPort[]>, now: Instant): void {
    this.#reachability.setStunServers(servers, now);
    this.#settle(now);
  }

  /**
   * The host's own addresses, at the start and whenever they change. One that is gone may have
   * carried any path; a new one breaks none.
   */
  handleInterfaces(interfaces: readonly Ip[], now: Instant): void {
    const kept = new Set(interfaces.map(({ text }) => text));
    const isLost = this.#interfaces.some(({ text }) => !kept.has(text));
    this.#interfaces = interfaces;
    this.#reachability.setInterfaces(interfaces, now);
    for (const peer of isLost ? this.#peers.all : []) {
      peer.withPaths((paths) => paths.handleNetworkChange(now), now);
      this.#follow(peer, now);
    }
    this.#settle(now);
  }

  /** An IP packet from the tunnel device. */
  handlePacket(packet: Uint8Array, now: Instant): void {
    const parsed = this.#inner.parse(packet);
    if (parsed === undefined) return;
    const peer = this.#peers.byDestination(parsed);
    if (peer === undefined) {
      this.drops.noPeer++;
      return;
    }
    for (const part of this.#inner.handleOutbound(parsed, peer.paths.mtu))
      this.#wireGuard.sendPacket(peer.node.key, part, now);
    this.#settle(now);
  }

  /** A data plane opened a packet of a peer that is the engine's to judge. */
  handleOpenedPacket(from: NodePublic, packet: Uint8Array, now: Instant): void {
    this.#handleOpened(from, packet, now);
    this.#settle(now);
  }

  /** A data plane sent this message by the direct path. */
  handleSentMessage(key: NodePublic, message: Uint8Array, now: Instant): void {
    const peer = this.#peers.byKey(key);
    if (peer === undefined) return;
    peer.takeCopy(message, now);
    this.#follow(peer, now);
  }

  /** A data plane sealed these for a peer without a settled direct path. */
  handleSealed(key: NodePublic, messages: readonly Uint8Array[], now: Instant): void {
    const peer = this.#peers.byKey(key);
    if (peer === undefined) return;
    for (const message of messages) {
      this.traffic.noteSealed(key, 1, message.length);
      if (!peer.send("data", message, now)) this.drops.noPath++;
    }
    this.#follow(peer, now);
    this.#settle(now);
  }

  /** What a data plane sent and received since it last said so. */
  handlePassed(key: NodePublic, passed: Passed, now: Instant): void {
    const peer = this.#peers.byKey(key);
    if (peer === undefined) return;
    this.#wireGuard.notePassed(key, passed, now);
    this.traffic.notePassed(key, passed);
    if (passed.sentData) peer.noteSent(now);
    this.#follow(peer, now);
    this.#settle(now);
  }

  /** A data plane opened a message that a plain peer sent from another address than it is sent to. */
  handleRoamed(key: NodePublic, from: IpPort, now: Instant): void {
    const peer = this.#peers.byKey(key);
    if (peer === undefined) return;
    peer.paths.handleAuthenticated(direct(from));
    this.#follow(peer, now);
    this.#settle(now);
  }

  /** A datagram at the tunnel's UDP port: WireGuard, disco or STUN. */
  handleDatagram(from: IpPort, payload: Uint8Array, now: Instant): void {
    const kind = classify(payload);
    if (kind === "stun") this.#reachability.handleStun(from, payload, now);
    else this.#handleMessage(kind === "disco" ? "disco" : "wireguard", payload, direct(from), undefined, now);
    this.#settle(now);
  }

  /** The operating system would not send to `to`. */
  handleSendError(to: IpPort, now: Instant): void {
    for (const peer of this.#timed) {
      peer.withPaths((paths) => paths.handleSendError(to, now), now);
      this.#follow(peer, now);
    }
    this.#settle(now);
  }

  handleRelayOpened(region: RegionId, serverKey: NodePublic | undefined, now: Instant): void {
    this.#links.handleOpened(region, serverKey, now);
    this.#settle(now);
  }

  handleRelayBytes(region: RegionId, chunk: Uint8Array, now: Instant): void {
    this.#links.handleBytes(region, chunk, now);
    this.#reachability.handleRelayHeard(region, now);
    this.#settle(now);
  }

  handleRelayWritable(region: RegionId, writable: boolean, now: Instant): void {
    this.#links.handleWritable(region, writable);
    this.#settle(now);
  }

  handleRelayClosed(region: RegionId, why: string, now: Instant): void {
    this.#links.handleClosed(region, why, now);
    this.#settle(now);
  }

  handleHttpsLatency(region: RegionId, latency: Millis | undefined, now: Instant): void {
    this.#reachability.handleHttpsLatency(region, latency, now);
    this.#settle(now);
  }

  /** Asks all relays anew; a `report` event tells the outcome. Returns false where there is none to ask. */
  netcheck(now: Instant): boolean {
    const asked = this.#reachability.check(now);
    this.#settle(now);
    return asked;
  }

  /**
   * Asks a peer for a sign of life by the path in use. Returns the transaction id that the
   * `pong` event will carry, or `undefined` where there is no way to ask.
   */
  ping(key: NodePublic, now: Instant): string | undefined {
    const peer = this.#peers.byKey(key);
    if (peer === undefined) return undefined;
    const txId = peer.withPaths((paths) => paths.ping(now), now);
    this.#follow(peer, now);
    this.#settle(now);
    return txId;
  }

  handleTimeout(now: Instant): void {
    this.#wireGuard.handleTimeout(now);
    this.#links.handleTimeout(now);
    this.#reachability.handleTimeout(now);
    for (const peer of [...this.#timed]) {
      peer.handleTimeout(now);
      this.#follow(peer, now);
    }
    this.#settle(now);
  }

  pollTimeout(): Instant | undefined {
    let at = earliest(this.#wireGuard.pollTimeout(), this.#links.pollTimeout());
    at = earliest(at, this.#reachability.pollTimeout());
    for (const peer of this.#timed) at = earliest(at, peer.pollTimeout());
    return at;
  }

  /** A datagram for the UDP socket. */
  pollDatagram(): Datagram | undefined {
    return this.#datagrams.shift();
  }

  /** Bytes for the stream to a relay. */
  pollRelayBytes(): RelayBytes | undefined {
    return this.#links.pollTransmit();
  }

  /** A packet for the tunnel device. */
  pollPacket(): Uint8Array | undefined {
    return this.#inner.poll();
  }

  /** What a data plane has to know. */
  pollDecision(): Decision | undefined {
    return this.#decisions?.poll();
  }

  pollEvent(): NodeEvent | undefined {
    return this.#events.shift();
  }

  get endpoints(): readonly Endpoint[] {
    return this.#reachability.endpoints;
  }

  get report(): NetcheckReport | undefined {
    return this.#reachability.report;
  }

  /** WireGuard messages and packets that were dropped, by reason. */
  get messageDrops(): Readonly<Record<DropReason, number>> {
    return this.#wireGuard.counters;
  }

  get homeRegion(): RegionId | undefined {
    return this.#links.home;
  }

  get homeUp(): boolean {
    return this.#links.homeUp;
  }

  /**
   * Where peers should reach us unasked, and try to in vain.
   * @param mapped addresses that the cloud maps to ours one to one
   */
  unreachedAt(mapped: readonly Ip[]): IpPort | undefined {
    return this.#unreached.verdict ? this.#reachability.openEndpoint(mapped) : undefined;
  }

  status(now: Instant): readonly PeerStatus[] {
    return [...this.#peers.all].map((peer) => {
      const stats = this.#wireGuard.peerStats(peer.node.key);
      return {
        node: peer.node,
        active: peer.paths.isActive(now),
        directAddress: peer.paths.directAddress(now),
        mtu: peer.paths.mtu,
        txBytes: stats?.txBytes ?? 0,
        rxBytes: stats?.rxBytes ?? 0,
        lastWrite: peer.wroteAt,
        lastHandshake: stats?.lastHandshake,
      };
    });
  }

  #updatePeer(node: MapNode, now: Instant): void {
    const known = this.#peers.byKey(node.key);
    if (known?.node === node) return;
    const peer = known ?? new Peer(node, this.#random, this.#pathMtu);
    const former = this.#peers.put(peer, node);
    this.#tellRoutes(peer, now);
    peer.setRelay(node.homeRegion ?? this.#links.reverseRoute(node.key));
    const own = this.#netMap?.self.addresses ?? [];
    const reachable = node.endpoints.filter(({ ip }) => !own.some((prefix) => prefix.contains(ip)));
    peer.withPaths((paths) => paths.setMapEndpoints(reachable, now), now);
    const restarted = former?.discoKey !== undefined && former.discoKey.text !== node.discoKey?.text;
    if (restarted) this.#discovery.forget(former.discoKey);
    if (restarted) peer.paths.handlePeerRestarted();
    if (restarted && peer.paths.isActive(now)) {
      peer.renewal = { since: now, at: now };
      this.#wireGuard.renewSession(node.key, now);
    }
    this.#follow(peer, now);
  }

  /** A peer that started anew may have heard of us after our initiation came. Now that it speaks to us, it knows us. */
  #renewAgain(peer: Peer, now: Instant): void {
    const { renewal, node } = peer;
    if (renewal === undefined) return;
    const { lastHandshake } = this.#wireGuard.peerStats(node.key) ?? {};
    const isOver = since(renewal.since, now) >= RENEWAL_LIMIT;
    if (isOver || (lastHandshake !== undefined && lastHandshake >= renewal.since)) peer.renewal = undefined;
    else if (since(renewal.at, now) >= RENEWAL_GAP) {
      renewal.at = now;
      this.#wireGuard.renewSession(node.key, now);
    }
  }

  #renewFilter(): void {
    const rules = this.#netMap?.packetFilter ?? [];
    const { routes, excluded } = this.#carried;
    const localAddresses = [...(this.#netMap?.self.addresses ?? []), ...routes];
    this.#inner.setFilter(rules, localAddresses, excluded);
    this.#decisions?.push({ kind: "filter", rules, localAddresses, excluded });
  }

  #tellRoutes({ node, routes }: Peer, now: Instant): void {
    this.#wireGuard.configurePeer({ key: node.key, allowedIps: routes, ...keysOf(node) }, now);
    this.#decisions?.push({
      kind: "peer",
      peer: node.key,
      prefixes: routes,
      roams: node.plain !== undefined,
    });
  }

  /** A peer is no longer in the map. */
  #dismiss(peer: Peer): void {
    this.#timed.delete(peer);
    this.#callsWaiting.delete(peer);
    if (peer.node.discoKey !== undefined) this.#discovery.forget(peer.node.discoKey);
    this.#wireGuard.removePeer(peer.node.key);
    this.traffic.forget(peer.node.key);
    this.#decisions?.push({ kind: "forget", peer: peer.node.key });
  }

  /** `source` is the sender that a relay names; a datagram has none. */
  #handleMessage(
    kind: "disco" | "wireguard",
    payload: Uint8Array,
    from: Path,
    source: NodePublic | undefined,
    now: Instant,
  ): void {
    if (kind === "wireguard") {
      this.traffic.noteReceived(from.kind, 1, payload.length);
      this.#wireGuard.handleMessage(payload, from, now, source);
      this.#drainWireGuard(source, now);
      return;
    }
    const heard = this.#discovery.handle(payload, from, source, now);
    if (heard === undefined) return;
    const { key } = heard.peer.node;
    if (from.kind === "direct") this.#unreached.handleDatagram(key, from.to.ip);
    else if (heard.calls !== undefined) this.#unreached.handleCall(key, heard.calls, now);
    this.#renewAgain(heard.peer, now);
    this.#sendBy(from, heard.peer, heard.answer, now);
    this.#follow(heard.peer, now);
  }

  #handleRelayPacket(event: Extract<RelayEvent, { kind: "packet" }>, now: Instant): void {
    const from = relay(event.region);
    const peer = this.#peers.byKey(event.from);
    if (peer !== undefined && peer.node.homeRegion === undefined) peer.setRelay(event.region);
    if (this.#openRelayed?.(event.packet) === true) {
      this.traffic.noteRelayed(event.from, event.packet.length);
      return;
    }
    const kind = classify(event.packet);
    this.#handleMessage(kind === "disco" ? "disco" : "wireguard", event.packet, from, event.from, now);
  }

  /** Passes on what the machines want sent and what they tell, until all are silent. */
  #settle(now: Instant): void {
    this.#drainWireGuard(undefined, now);
    for (
      let event = this.#reachability.pollEvent();
      event !== undefined;
      event = this.#reachability.pollEvent()
    ) {
      this.#handleReachability(event, now);
    }
    for (
      let out = this.#reachability.pollTransmit();
      out !== undefined;
      out = this.#reachability.pollTransmit()
    ) {
      this.#datagrams.push(out);
    }
    for (let event = this.#links.pollEvent(); event !== undefined; event = this.#links.pollEvent()) {
      if (event.kind === "packet") this.#handleRelayPacket(event, now);
      else this.#events.push(event);
    }
    let active = false;
    for (const peer of this.#timed) active ||= peer.paths.isActive(now);
    this.#reachability.setActive(active, now);
  }

  #handleReachability(event: ReachabilityEvent, now: Instant): void {
    if (event.kind === "home") {
      if (event.region === this.#links.home) return;
      this.#links.setHome(event.region, now);
    }
    if (event.kind === "report") {
      for (const peer of this.#callsWaiting) this.#sendCall(peer, now);
      this.#callsWaiting.clear();
    }
    if (event.kind === "endpoints") this.#unreached.handleEndpoints(now);
    this.#events.push(event);
  }

  #drainWireGuard(source: NodePublic | undefined, now: Instant): void {
    for (let event = this.#wireGuard.pollEvent(); event !== undefined; event = this.#wireGuard.pollEvent()) {
      if (event.kind === "packet") this.#handleOpened(event.peer, event.packet, now);
      else if (event.kind === "sessions") this.#tellSessions(event.peer, now);
      else if (event.kind === "authenticated")
        this.#peers.byKey(event.peer)?.paths.handleAuthenticated(event.from);
    }
    for (let out = this.#wireGuard.pollTransmit(); out !== undefined; out = this.#wireGuard.pollTransmit()) {
      this.#sendWireGuard(out, source, now);
    }
  }

  #tellSessions(key: NodePublic, now: Instant): void {
    this.traffic.noteHandshake(key, this.#wireGuard.peerStats(key)?.lastHandshake);
    const { receive } = this.#wireGuard.sessionsOf(key, now);
    this.#decisions?.push({ kind: "receive", peer: key, sessions: receive });
    const peer = this.#peers.byKey(key);
    if (peer !== undefined) this.#tellSend(peer, now);
  }

  #tellSend(peer: Peer, now: Instant): void {
    if (this.#decisions === undefined) return;
    const { key } = peer.node;
    this.#decisions.mtu(key, peer.paths.mtu);
    const { send } = this.#wireGuard.sessionsOf(key, now);
    this.#decisions.send(key, send === undefined ? undefined : peer.settledPath(now), send);
  }

  #handleOpened(from: NodePublic, packet: Uint8Array, now: Instant): void {
    const mtu = this.#peers.byKey(from)?.paths.mtu ?? BASE_MTU;
    const answer = this.#inner.handleInbound(packet, mtu);
    if (answer !== undefined) this.#wireGuard.sendPacket(from, answer, now);
  }

  #sendWireGuard(out: WireGuardTransmit, source: NodePublic | undefined, now: Instant): void {
    const peer = out.peer === undefined ? undefined : this.#peers.byKey(out.peer);
    if (peer === undefined || out.kind === "cookie") {
      this.#reply(out, out.peer ?? source, now);
      return;
    }
    // Who has just proven its key hears the answer where it asked from, whatever we know of paths.
    const asked = out.replyTo?.kind === "direct" ? out.replyTo.to.text : undefined;
    if (asked !== undefined && asked !== peer.paths.directAddress(now)?.text) this.#reply(out, out.peer, now);
    const kind = out.kind === "data" || out.kind === "keepalive" ? out.kind : "handshake";
    if (!peer.send(kind, out.payload, now)) this.drops.noPath++;
    this.#follow(peer, now);
  }

  /** Sends an answer back by the way its question came. */
  #reply({ replyTo, payload }: WireGuardTransmit, to: NodePublic | undefined, now: Instant): void {
    if (replyTo?.kind === "direct") this.#datagrams.push({ to: replyTo.to, payload });
    else if (replyTo !== undefined && to !== undefined) this.#links.send(replyTo.region, to, payload, now);
  }

  #sendBy(path: Path, peer: Peer, payload: Uint8Array | undefined, now: Instant): void {
    if (payload === undefined) return;
    if (path.kind === "direct") this.#datagrams.push({ to: path.to, payload });
    else this.#links.send(path.region, peer.node.key, payload, now);
  }

  /** Does what a peer wants done, and notes whether it wants to be woken. */
  #follow(peer: Peer, now: Instant): void {
    for (let action = peer.pollAction(); action !== undefined; action = peer.pollAction()) {
      switch (action.kind) {
        case "send":
          this.traffic.noteSent(action.via.kind, 1, action.payload.length);
          this.#sendBy(action.via, peer, action.payload, now);
          break;
        case "ping":
          this.#sendPing(action, peer, now);
          break;
        case "call-me-maybe":
          if (this.#reachability.freshen(now)) this.#sendCall(peer, now);
          else this.#callsWaiting.add(peer);
          break;
      }
    }
    for (let event = peer.pollEvent(); event !== undefined; event = peer.pollEvent()) {
      if (event.kind === "moved") this.traffic.noteMove(event.to);
      this.#events.push(event.kind === "moved" ? { ...event, peer: peer.node.key } : event);
    }
    this.#tellSend(peer, now);
    if (peer.pollTimeout() === undefined) this.#timed.delete(peer);
    else this.#timed.add(peer);
  }

  #sendPing(
    { via, txId, wireSize }: Extract<PathTransmit, { kind: "ping" }>,
    peer: Peer,
    now: Instant,
  ): void {
    if (via.kind === "relay" || wireSize === undefined) {
      this.#sendBy(via, peer, this.#discovery.sealPing(peer, txId), now);
      return;
    }
    const payload = this.#discovery.sealPaddedPing(peer, txId, via.to, wireSize);
    if (payload !== undefined) this.#datagrams.push({ to: via.to, payload, whole: true });
  }

  #sendCall(peer: Peer, now: Instant): void {
    const region = peer.node.homeRegion ?? this.#links.reverseRoute(peer.node.key);
    if (region === undefined) return;
    const endpoints = this.#reachability.endpoints.map(({ address }) => address);
    this.#sendBy(relay(region), peer, this.#discovery.sealCall(peer, endpoints), now);
  }
}

function keysOf({ plain }: MapNode): Pick<PeerOptions, "presharedKey" | "persistentKeepalive"> {
  if (plain === undefined) return {};
  return { presharedKey: plain.presharedKey, persistentKeepalive: plain.persistentKeepalive };
}
