/**
 * The list of the peers that offer to carry all traffic. Where the server says in which cities they are there may be hundreds, so
 * of each city the first choice is shown, and of a country with several cities the best of all beside them as "Any".
 */
import type { PeerJson, StatusJson } from "../health/status-json.ts";

/** @param country if given, all of it and nothing else. @returns lines without line ends; undefined where no peer offers it */
export function exitNodeLines(status: StatusJson, country = ""): readonly string[] | undefined {
  const peers = Object.values(status.Peer ?? {})
    .filter((peer) => peer.ExitNodeOption)
    .filter((peer) => country === "" || isSame(peer.Location?.Country ?? "", country))
    .toSorted((a, b) => compare(a.DNSName, b.DNSName));
  if (peers.length === 0) return undefined;
  const rows = grouped(peers, (peer) => peer.Location?.CountryCode, countryOf).flatMap((own) =>
    countryRows(own, country !== ""),
  );
  return [
    "",
    ...columns([HEADER, ...rows]),
    "",
    "# To view the complete list of exit nodes for a country, use `sallyport exit-node list --filter=` followed by the country name.",
    "# To use an exit node, use `sallyport set --exit-node=` followed by the IP or hostname.",
  ];
}

const HEADER = [" IP", "HOSTNAME", "COUNTRY", "CITY", "STATUS"];
const [MIN_WIDTH, PADDING] = [10, 5];

/** Of those whose place nobody knows all are shown. */
function countryRows(peers: readonly PeerJson[], isWhole: boolean): readonly (readonly string[])[] {
  if (peers.every((peer) => countryOf(peer) === "")) return peers.map((peer) => row(peer, cityOf(peer)));
  const [best] = byPriority(peers);
  const cities = grouped(peers, (peer) => peer.Location?.CityCode, cityOf).map(byPriority);
  const any = best !== undefined && cities.length > 1 ? [row(best, "Any")] : [];
  const shown = cities.flatMap((city) => city.filter((peer, i) => isWhole || i === 0 || peer.ExitNode));
  return [...any, ...shown.map((peer) => row(peer, cityOf(peer)))];
}

const countryOf = (peer: PeerJson): string => peer.Location?.Country ?? "";
const cityOf = (peer: PeerJson): string => peer.Location?.City ?? "";

function row(peer: PeerJson, city: string): readonly string[] {
  return [
    ` ${peer.TailscaleIPs?.[0] ?? ""}`,
    peer.DNSName.replace(/\.$/, ""),
    countryOf(peer) || "-",
    city || "-",
    peer.ExitNode ? "selected" : peer.Online ? "-" : "offline",
  ];
}

/** Those with the same code together, by name. */
function grouped(
  peers: readonly PeerJson[],
  codeOf: (peer: PeerJson) => string | undefined,
  nameOf: (peer: PeerJson) => string,
): readonly (readonly PeerJson[])[] {
  const groups = new Map<string, PeerJson[]>();
  for (const peer of peers) {
    const code = codeOf(peer) ?? "";
    groups.set(code, [...(groups.get(code) ?? []), peer]);
  }
  const named = ([peer]: readonly PeerJson[]): string => (peer === undefined ? "" : nameOf(peer));
  return [...groups.values()].toSorted((a, b) => compare(named(a), named(b)));
}

const byPriority = (peers: readonly PeerJson[]): readonly PeerJson[] =>
  peers.toSorted((a, b) => (b.Location?.Priority ?? 0) - (a.Location?.Priority ?? 0));

const compare = (a: string, b: string): number => (a === b ? 0 : a < b ? -1 : 1);
const isSame = (a: string, b: string): boolean => a.toLowerCase() === b.toLowerCase();

function columns(rows: readonly (readonly string[])[]): readonly string[] {
  const widths = HEADER.map((_, column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0)));
  return rows.map((cells) =>
    cells.map((cell, i) => cell.padEnd(Math.max(MIN_WIDTH, (widths[i] ?? 0) + PADDING))).join(""),
  );
}
