/**
 * Two nodes and a relay that meet in memory: the relayed handshake, discovery, the direct path, packets both ways.
 *
 * A JavaScript engine compiles a function when it is first called and makes it fast when it was called often. Without a
 * rehearsal that happens while the first packet to the first peer waits, and takes ten times as long as the work itself.
 * So a node that has nothing to do plays the whole scene with keys of its own and throws it away.
 */
import { Ip, IpPort, Prefix } from "../base/address.ts";
import { clampPrivateKey, DiscoPrivate, KEY_LENGTH, NodePrivate } from "../base/keys.ts";
import { randomBytes, type Random } from "../base/random.ts";
import { type Calendar, type Instant, instant } from "../base/time.ts";
import type { MapNode, NetMap } from "../core/control/net-map.ts";
import { DerpServer } from "../core/derp/server.ts";
import { buildEcho, parseEcho } from "../core/ip/icmp.ts";
import { parsePacket } from "../core/ip/packet.ts";
import type { DerpMap } from "../core/path/derp-map.ts";
import { type RegionId, regionId } from "../core/path/path.ts";
import type { Suite } from "../crypto/suite.ts";
import { Node } from "./node.ts";

export interface RehearsalParts {
  readonly suite: Suite;
  readonly random: Random;
  readonly calendar: Calendar;
}

/**
 * One scene, in steps of about one packet each, so that real work can come between them. Ends after a few echoes over a
 * direct path; returns whether it got so far.
 */
export function* rehearse(parts: RehearsalParts): Generator<void, boolean> {
  const relay = newRelay(parts);
  const [here, there] = [newActor(parts, 1), newActor(parts, 2)];
  const scene: Scene = { relay, actors: [here, there], now: instant(0) };
  for (const actor of scene.actors) {
    actor.node.handleInterfaces([actor.address.ip], scene.now);
    yield;
  }
  yield* deliverAll(scene);
  introduce(scene);
  yield* deliverAll(scene);
  let direct = 0;
  for (let sequence = 1; sequence <= MOST_ECHOES && direct < DIRECT_ECHOES; sequence++) {
    here.node.handlePacket(echo(here, there, "request", sequence), scene.now);
    yield* deliverAll(scene);
    if (here.node.status(scene.now)[0]?.directAddress !== undefined) direct++;
  }
  return direct === DIRECT_ECHOES;
}

/** Some by the relay, some directly. */
const DIRECT_ECHOES = 3;
const MOST_ECHOES = 10;
/** RFC 5737: nobody's. They are never sent to. */
const OUTSIDE = "203.0.113.";
const INSIDE = "100.64.0.";
const PORT = 41_641;
const REGION: RegionId = regionId(900);
const ALLOW_ALL = [{ SrcIPs: ["*"], DstPorts: [{ IP: "*", Ports: { First: 0, Last: 65_535 } }] }];
const DERP_MAP: DerpMap = {
  regions: new Map([
    [REGION, { id: REGION, code: "nyc", name: "", avoid: false, noMeasureNoHome: false, nodes: [] }],
  ]),
  regionScore: new Map(),
};
/** A scene that does not come to rest is given up. */
const MOST_ROUNDS = 50;
/** Of the tunnel device, in bytes. */
const MTU = 1280;
const ECHO_DATA = new Uint8Array(56);

interface Actor {
  readonly id: number;
  readonly node: Node;
  readonly address: IpPort;
  readonly inside: Ip;
}

interface Scene {
  readonly relay: DerpServer;
  readonly actors: readonly [Actor, Actor];
  now: Instant;
}

function newRelay({ suite, random }: RehearsalParts): DerpServer {
  return new DerpServer({ suite, random, serverKey: new NodePrivate(newKey(random)) });
}

function newActor({ suite, random, calendar }: RehearsalParts, id: number): Actor {
  const node = new Node({
    ...{ suite, random, calendar, mtu: MTU, localPort: PORT, portIsFixed: false, explicit: [] },
    nodeKey: new NodePrivate(newKey(random)),
    discoKey: new DiscoPrivate(newKey(random)),
  });
  const address = new IpPort(Ip.parse(`${OUTSIDE}${id}`), PORT);
  return { id, node, address, inside: Ip.parse(`${INSIDE}${id}`) };
}

const newKey = (random: Random): Uint8Array => clampPrivateKey(randomBytes(random, KEY_LENGTH));

function introduce({ actors, now }: Scene): void {
  const [a, b] = actors.map(mapNodeOf);
  if (a === undefined || b === undefined) return;
  const rest = {
    ...{ derpMap: DERP_MAP, packetFilter: ALLOW_ALL, domain: "", magicDnsSuffix: "" },
    users: new Map(),
  };
  const maps: readonly [NetMap, NetMap] = [
    { ...rest, self: a, peers: [b] },
    { ...rest, self: b, peers: [a] },
  ];
  actors[0].node.handleNetMap(maps[0], now);
  actors[1].node.handleNetMap(maps[1], now);
}

/** Passes on what the nodes and the relay have to say until they are silent. A packet is answered as a kernel does. */
function* deliverAll(scene: Scene): Generator<void> {
  for (let round = 0; round < MOST_ROUNDS; round++) {
    let moved = false;
    for (const actor of scene.actors) {
      scene.now = instant(scene.now + 1);
      for (const _ of deliver(scene, actor)) {
        moved = true;
        yield;
      }
    }
    for (let out = scene.relay.pollTransmit(); out !== undefined; out = scene.relay.pollTransmit()) {
      actorOf(scene, out.conn)?.node.handleRelayBytes(REGION, out.bytes.slice(), scene.now);
      moved = true;
      yield;
    }
    if (!moved) return;
  }
}

function* deliver(scene: Scene, { node, address, id }: Actor): Generator<void> {
  const { relay, actors, now } = scene;
  const [first, second] = actors;
  const [self, other] = first.id === id ? [first, second] : [second, first];
  for (let out = node.pollDatagram(); out !== undefined; out = node.pollDatagram()) {
    if (out.to.text === other.address.text) other.node.handleDatagram(address, out.payload.slice(), now);
    yield;
  }
  for (let out = node.pollRelayBytes(); out !== undefined; out = node.pollRelayBytes()) {
    relay.handleBytes(id, out.bytes.slice(), now);
    yield;
  }
  for (let packet = node.pollPacket(); packet !== undefined; packet = node.pollPacket()) {
    const answer = answerTo(packet, self, other);
    if (answer !== undefined) node.handlePacket(answer, now);
    yield;
  }
  for (let event = node.pollEvent(); event !== undefined; event = node.pollEvent()) {
    if (event.kind !== "dial") continue;
    relay.handleOpen(id, address, now);
    node.handleRelayOpened(REGION, relay.publicKey, now);
    yield;
  }
}

const actorOf = ({ actors }: Scene, id: number): Actor | undefined => actors.find((actor) => actor.id === id);

function answerTo(packet: Uint8Array, self: Actor, other: Actor): Uint8Array | undefined {
  const parsed = parsePacket(packet);
  if (typeof parsed === "string") return undefined;
  const asked = parseEcho(parsed);
  if (typeof asked === "string" || asked.kind !== "request") return undefined;
  return echo(self, other, "reply", asked.sequence);
}

function echo(from: Actor, to: Actor, kind: "request" | "reply", sequence: number): Uint8Array {
  return buildEcho(from.inside, to.inside, { kind, identifier: 1, sequence, data: ECHO_DATA });
}

function mapNodeOf({ id, node, inside, address }: Actor): MapNode {
  const own = Prefix.host(inside);
  return {
    ...{ id, stableId: `n${id}`, name: `n${id}.`, hostname: `n${id}`, os: "", tags: [], user: 1, cap: 113 },
    ...{ key: node.publicKey, machine: undefined, discoKey: node.discoKey, homeRegion: REGION },
    ...{ addresses: [own], allowedIps: [own], endpoints: [address], primaryRoutes: [] },
    ...{ online: true, lastSeen: undefined, keyExpiry: undefined, expired: false, created: undefined },
  };
}
