/** The status as people read it: one line a node, in columns. */
import type { BackendState, PeerJson, StatusJson } from "../health/status-json.ts";
import { parseRfc3339 } from "../base/rfc3339.ts";
import type { WallTime } from "../base/time.ts";

export interface StatusView {
  readonly self: boolean;
  readonly peers: boolean;
  /** Only peers with traffic of their own in the last 45 s. */
  readonly active: boolean;
  readonly header: boolean;
}

/** Lines without line ends. Cells are padded in every column, so lines end in spaces. */
export function statusLines(status: StatusJson, view: StatusView, now: WallTime): readonly string[] {
  const rows = [
    ...(view.self && status.Self.TailscaleIPs !== null ? [status.Self] : []),
    ...(view.peers ? peersByName(status).filter((peer) => peer.Active || !view.active) : []),
  ].map((peer) => rowOf(status, peer, now));
  return [...table(view.header ? [HEADER, HEADER.map(dashes), ...rows] : rows), ...healthLines(status)];
}

/** What is said instead of the table while the tunnel is not up; undefined while it is. */
export function notRunningLines(state: BackendState, authUrl: string): readonly string[] | undefined {
  switch (state) {
    case "Stopped":
      return ["Sallyport is stopped."];
    case "NeedsLogin":
      return ["Logged out.", ...(authUrl === "" ? [] : [`Log in at: ${authUrl}`])];
    case "NeedsMachineAuth":
      return ["Machine is not yet approved by tailnet admin."];
    case "NoState":
    case "Starting":
      return ["Sallyport is starting."];
    case "Running":
      return undefined;
  }
}

const HEADER = ["IP", "Hostname", "Owner", "OS", "Status"];
const COLUMN_GAP = "  ";
const MINUTE = 60_000;

const dashes = (text: string): string => "-".repeat(text.length);

function table(rows: readonly (readonly string[])[]): readonly string[] {
  const widths = HEADER.map((_, column) => Math.max(0, ...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) => row.map((cell, i) => cell.padEnd(widths[i] ?? 0) + COLUMN_GAP).join(""));
}

function rowOf(status: StatusJson, peer: PeerJson, now: WallTime): readonly string[] {
  return [
    peer.TailscaleIPs?.[0] ?? "",
    nameOf(peer, status.MagicDNSSuffix),
    ownerOf(status, peer),
    peer.OS,
    stateOf(peer, now),
  ];
}

function nameOf(peer: PeerJson, suffix: string): string {
  const name = peer.DNSName.replace(/\.$/, "");
  const short = suffix !== "" && name.endsWith(`.${suffix}`) ? name.slice(0, -suffix.length - 1) : name;
  return short === "" ? `("${peer.HostName.replaceAll(/[^\w.-]+/g, "-")}")` : short;
}

/** "alice@example.com" is shown as "alice@"; a user the map does not name by its number. */
function ownerOf(status: StatusJson, peer: PeerJson): string {
  const login = status.User?.[String(peer.UserID)]?.LoginName;
  if (login === undefined) return String(peer.UserID);
  const at = login.indexOf("@");
  return at < 0 ? login : login.slice(0, at + 1);
}

function stateOf(peer: PeerJson, now: WallTime): string {
  const { TxBytes: tx, RxBytes: rx } = peer;
  const traffic = tx > 0 || rx > 0 ? `, tx ${tx} rx ${rx}` : "";
  return (peer.Active ? activeState(peer, now) : idleState(peer, now)) + traffic;
}

function activeState(peer: PeerJson, now: WallTime): string {
  const offline = peer.Online ? "" : `; ${offlineText(peer, now)}`;
  const role = peer.ExitNode ? "exit node; " : peer.ExitNodeOption ? "offers exit node; " : "";
  return `active; ${role}${pathOf(peer)}${offline}`;
}

function pathOf(peer: PeerJson): string {
  if (peer.CurAddr !== "") return `direct ${peer.CurAddr}`;
  return peer.PeerRelay === "" ? `relay ${JSON.stringify(peer.Relay)}` : `peer-relay ${peer.PeerRelay}`;
}

function idleState(peer: PeerJson, now: WallTime): string {
  const offline = peer.Online ? "" : `; ${offlineText(peer, now)}`;
  if (peer.ExitNode) return `idle; exit node${offline}`;
  if (peer.ExitNodeOption) return `idle; offers exit node${offline}`;
  if (peer.TxBytes > 0 || peer.RxBytes > 0) return `idle${offline}`;
  return peer.Online ? "-" : offlineText(peer, now);
}

function offlineText(peer: PeerJson, now: WallTime): string {
  const seen = parseRfc3339(peer.LastSeen);
  return seen === undefined ? "offline" : `offline, last seen ${ageText(now - seen)} ago`;
}

/** Whole minutes (at least one), hours from one hour on, days from one day on. */
function ageText(age: number): string {
  const minutes = Math.max(1, Math.floor(age / MINUTE));
  if (minutes < 60) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  return hours < 24 ? `${hours}h` : `${Math.floor(hours / 24)}d`;
}

function healthLines(status: StatusJson): readonly string[] {
  if (status.Health.length === 0) return [];
  return ["", "# Health check:", ...status.Health.map((text) => `#     - ${text}`)];
}

function peersByName(status: StatusJson): readonly PeerJson[] {
  const name = (peer: PeerJson): string => (peer.DNSName === "" ? peer.HostName : peer.DNSName).toLowerCase();
  return Object.values(status.Peer ?? {}).toSorted((a, b) => (name(a) < name(b) ? -1 : 1));
}
