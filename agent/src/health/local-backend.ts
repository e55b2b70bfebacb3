/** What the commands ask of a running daemon. The daemon implements it; the local API carries it. */
import type { NetcheckReply } from "./netcheck-json.ts";
import type { StatusJson } from "./status-json.ts";

export interface LocalBackend {
  status(): StatusJson;
  /** One question to one peer, by the path in use. */
  ping(request: PingRequest): Promise<PingReply>;
  /** Asks the relays anew what kind of network this is; `undefined` while the tunnel is down. */
  netcheck(): Promise<NetcheckReply | undefined>;
  /**
   * Brings the tunnel up and tells how it goes; ends after "running" or "failed".
   * @param gone fires when nobody listens any more; the tunnel goes on coming up
   */
  up(request: UpRequest, gone?: AbortSignal): AsyncIterable<UpEvent>;
  /** Changes settings, also while the tunnel is down. */
  set(request: PrefsRequest): Promise<void>;
  /** Takes the tunnel down; the device stays registered. */
  down(): Promise<void>;
  /** Takes the tunnel down and gives up the registration. */
  logout(): Promise<void>;
}

export interface PingRequest {
  /** A peer's short or full DNS name, or one of its addresses. */
  readonly target: string;
  readonly timeoutMs: number;
}

export type PingReply = Pong | PingTimeout | PingLocal | PingNoMatch | PingNotRunning;

export interface Pong {
  readonly kind: "pong";
  /** The peer's short name. */
  readonly name: string;
  readonly ip: string;
  readonly via: PongVia;
  readonly latencyMs: number;
}

export type PongVia =
  | { readonly kind: "derp"; readonly code: string }
  | { readonly kind: "direct"; readonly endpoint: string }
  | { readonly kind: "peer-relay"; readonly endpoint: string; readonly vni: number }
  | { readonly kind: "tsmp"; readonly peerApiPort: number }
  | { readonly kind: "icmp" };

export interface PingTimeout {
  readonly kind: "timeout";
  readonly ip: string;
}

/** The target is this node. */
export interface PingLocal {
  readonly kind: "local";
  readonly ip: string;
}

/** The target is no peer in the network map. */
export interface PingNoMatch {
  readonly kind: "no-match";
}

export interface PingNotRunning {
  readonly kind: "not-running";
  /** What `status` says of it. */
  readonly text: string;
}

/** What is undefined stays as it was. */
export interface PrefsRequest {
  readonly hostname?: string | undefined;
  readonly advertiseExitNode?: boolean | undefined;
  readonly advertiseRoutes?: readonly string[] | undefined;
  /** Firewalls of others on this machine: "docker-user", "firewalld". */
  readonly forwardAccept?: readonly string[] | undefined;
  readonly acceptRoutes?: boolean | undefined;
  /** A peer's name or address, or "auto"; "" is none. */
  readonly exitNode?: string | undefined;
  readonly exitNodeAllowLanAccess?: boolean | undefined;
  /** Addresses; an empty list is the default servers. */
  readonly exitNodeDns?: readonly string[] | undefined;
}

export interface UpRequest extends PrefsRequest {
  readonly loginServer: string | undefined;
  /** A secret. */
  readonly authKey: string | undefined;
  /** "sha256-raw:<hex>": pins the login server's certificate. */
  readonly certPin: string | undefined;
  readonly timeoutMs: number;
}

export type UpEvent =
  | { readonly kind: "auth-url"; readonly url: string }
  /** Nothing that keeps the tunnel from coming up. */
  | { readonly kind: "warning"; readonly text: string }
  | { readonly kind: "running"; readonly name: string; readonly ips: readonly string[] }
  | { readonly kind: "failed"; readonly code: string; readonly message: string };
