/** What a relay knows of one connection, and of the key that it logged in with. */
import type { IpPort } from "../../base/address.ts";
import type { NodePublic } from "../../base/keys.ts";
import { after, earliest, type Instant, type Millis } from "../../base/time.ts";
import { MAX_CLIENT_INFO_LENGTH } from "./frame.ts";
import { FrameReader } from "./frame-reader.ts";
import { PacketQueue } from "./packet-queue.ts";
import { TokenBucket } from "./token-bucket.ts";

/** A key that is connected, perhaps more than once. */
export interface Peer {
  readonly name: string;
  readonly keyBytes: Uint8Array;
  readonly connections: Set<ServerConnection>;
  /** The connection that packets for this key go to: the one heard from last. */
  active: ServerConnection;
  /** The connections that have received a packet from this key: they are told when it goes. */
  readonly heardBy: Set<ServerConnection>;
}

export interface Login {
  readonly key: NodePublic;
  readonly peer: Peer;
}

/** Enough that an ordinary burst is not lost, little enough that what waits is still worth reading. */
const DATA_LIMIT = { packets: 1024, bytes: 1024 * 1024 };
const DISCO_LIMIT = { packets: 256, bytes: 64 * 1024 };
/** Notes of the relay's own: pongs, keep-alives, peers gone. */
const CONTROL_LIMIT = { packets: 1024, bytes: 64 * 1024 };
/** How often a client is told that a peer is not here. ts: 3 at once, then one a second. */
const COMPLAINTS_PER_SECOND = 1;
const COMPLAINTS_AT_ONCE = 3;

export class ServerConnection {
  readonly id: number;
  readonly remote: IpPort;
  readonly loginUntil: Instant;
  readonly keepAliveEvery: Millis;
  readonly reader = new FrameReader(MAX_CLIENT_INFO_LENGTH);
  readonly control = new PacketQueue(CONTROL_LIMIT);
  readonly disco = new PacketQueue(DISCO_LIMIT);
  readonly data = new PacketQueue(DATA_LIMIT);
  /** The peers it has received packets from. */
  readonly heard = new Set<Peer>();
  keyBytes: Uint8Array = new Uint8Array(0);
  keepAliveAt: Instant;
  /** Set while it takes no bytes: when it will be closed for that. */
  blockedUntil: Instant | undefined;
  isHome = false;
  isOpen = true;
  isPending = false;
  /** Where its last packet went, which is where the next one most likely goes. */
  lastRoute: Peer | undefined;
  lastTo: ServerConnection | undefined;
  #login: Login | undefined;
  readonly #complaints: TokenBucket;

  constructor(id: number, remote: IpPort, loginUntil: Instant, keepAliveEvery: Millis, now: Instant) {
    this.id = id;
    this.remote = remote;
    this.loginUntil = loginUntil;
    this.keepAliveEvery = keepAliveEvery;
    this.keepAliveAt = after(now, keepAliveEvery);
    this.#complaints = new TokenBucket(COMPLAINTS_PER_SECOND, COMPLAINTS_AT_ONCE, now);
  }

  get login(): Login | undefined {
    return this.#login;
  }

  logIn(login: Login, now: Instant): void {
    this.#login = login;
    this.keyBytes = login.peer.keyBytes;
    this.keepAliveAt = after(now, this.keepAliveEvery);
  }

  /** Takes one of the rare answers that say a peer is not here. */
  mayComplain(now: Instant): boolean {
    return this.#complaints.take(1, now);
  }

  /** Everything that waits, in the order it is sent: the relay's notes, path discovery, data. */
  takeAll(): Uint8Array[] {
    const frames: Uint8Array[] = [];
    this.control.drainTo(frames);
    this.disco.drainTo(frames);
    this.data.drainTo(frames);
    return frames;
  }

  nextDeadline(): Instant | undefined {
    return earliest(this.blockedUntil, this.#login === undefined ? this.loginUntil : this.keepAliveAt);
  }
}
