/**
 * The state of the daemon as JSON: the fields and names of `tailscale status --json`, so that scripts
 * written for it can read ours. Times are RFC 3339; "0001-01-01T00:00:00Z" is never.
 */
export type BackendState = "NoState" | "NeedsLogin" | "NeedsMachineAuth" | "Stopped" | "Starting" | "Running";

export interface StatusJson {
  readonly Version: string;
  /** Whether packets go through a kernel device. */
  readonly TUN: boolean;
  readonly BackendState: BackendState;
  readonly HaveNodeKey: boolean;
  /** Where to log in, or "". */
  readonly AuthURL: string;
  readonly TailscaleIPs: readonly string[] | null;
  /** Without a map what is known: a name, and zeros. */
  readonly Self: PeerJson;
  readonly ExitNodeStatus?: ExitNodeJson;
  /** What is wrong, one sentence each. */
  readonly Health: readonly string[];
  readonly MagicDNSSuffix: string;
  readonly CurrentTailnet: TailnetJson | null;
  readonly CertDomains: readonly string[] | null;
  readonly ExtraRecords: readonly unknown[] | null;
  /** By node key; null where there are none. */
  readonly Peer: Readonly<Record<string, PeerJson>> | null;
  /** By user number. */
  readonly User: Readonly<Record<string, UserJson>> | null;
  readonly ClientVersion: null;
  /** Ours: which of its ways the data plane uses. */
  readonly DataPlane?: DataPlaneJson;
  /** Ours: of a node that carries the traffic of others. */
  readonly Forwarding?: ForwardingJson;
}

/** How the traffic of others leaves this node. */
export interface ForwardingJson {
  /** Whether exit traffic is let through. */
  readonly Open: boolean;
  /** Devices; "" where there is none. */
  readonly Egress: string;
  readonly Ingress: string;
  /** The address that the internet sees exit traffic come from; "" while nobody has said. */
  readonly SeenEgress: string;
  /** Address and port at which it sees the tunnel. */
  readonly SeenIngress: string;
  /** Both were seen, and are what they should be. */
  readonly Proven: boolean;
  /** What is wrong, one word each. */
  readonly Reasons: readonly string[];
  /** Settings of interfaces that make it cheaper. */
  readonly Tuning: readonly TunedJson[];
}

export interface TunedJson {
  readonly What: string;
  readonly Was: string;
  readonly Is: string;
  readonly Why: string;
}

export interface DataPlaneJson {
  /** Threads that move packets; with 0 the engine does. */
  readonly Workers: number;
  /** Why there is none. */
  readonly Why?: string;
  /** How packets are sealed: "openssl-raw", "openssl-raw-calls", "openssl-evp", "wasm" or "node-crypto". */
  readonly Aead: string;
  /** What the TUN device hands over in large pieces: "tcp+udp", "tcp" or "none". */
  readonly TunOffload: string;
  /** Whether several datagrams are sent, and received, as one. */
  readonly UdpSegmentation: boolean;
  readonly UdpReceiveOffload: boolean;
  /** Why it is not the fastest way: a sentence for each thing that is missing. */
  readonly Fallbacks: readonly string[];
  /** Packets, bytes, and what was dropped, by reason. */
  readonly Counters: Readonly<Record<string, number>>;
}

export interface PeerJson {
  readonly ID: string;
  readonly NodeID: number;
  readonly PublicKey: string;
  readonly HostName: string;
  /** With the final dot. */
  readonly DNSName: string;
  readonly OS: string;
  readonly UserID: number;
  /** null, and the next not there, while there is no map. */
  readonly TailscaleIPs: readonly string[] | null;
  readonly AllowedIPs?: readonly string[];
  readonly Tags?: readonly string[];
  readonly PrimaryRoutes?: readonly string[];
  /** Own endpoints; null for peers. */
  readonly Addrs: readonly string[] | null;
  /** "" unless there is a direct path now. */
  readonly CurAddr: string;
  /** Code of the home region. */
  readonly Relay: string;
  readonly PeerRelay: string;
  readonly RxBytes: number;
  readonly TxBytes: number;
  readonly Created: string;
  readonly LastWrite: string;
  readonly LastSeen: string;
  readonly LastHandshake: string;
  readonly Online: boolean;
  /** Whether this node's traffic goes out there. */
  readonly ExitNode: boolean;
  readonly ExitNodeOption: boolean;
  readonly Active: boolean;
  readonly PeerAPIURL: readonly string[] | null;
  readonly TaildropTarget: number;
  readonly NoFileSharingReason: string;
  readonly InNetworkMap: boolean;
  readonly InMagicSock: boolean;
  readonly InEngine: boolean;
  readonly Expired?: boolean;
  readonly KeyExpiry?: string;
  readonly Location?: LocationJson;
}

/** Of an exit node, where the control server says it. */
export interface LocationJson {
  readonly Country: string;
  readonly CountryCode: string;
  readonly City: string;
  readonly CityCode: string;
  readonly Priority: number;
}

export interface ExitNodeJson {
  readonly ID: string;
  readonly Online: boolean;
  readonly TailscaleIPs: readonly string[];
}

export interface TailnetJson {
  readonly Name: string;
  readonly MagicDNSSuffix: string;
  readonly MagicDNSEnabled: boolean;
}

export interface UserJson {
  readonly ID: number;
  readonly LoginName: string;
  readonly DisplayName: string;
}

/** How Go writes a time that was never set. */
export const NEVER = "0001-01-01T00:00:00Z";
