/** The list of the peers that offer to carry all traffic. */
import type { StatusJson } from "../health/status-json.ts";

/** Lines without line ends; undefined where no peer offers it. */
export function exitNodeLines(status: StatusJson): readonly string[] | undefined {
  const peers = Object.values(status.Peer ?? {})
    .filter((peer) => peer.ExitNodeOption)
    .toSorted((a, b) => (a.DNSName < b.DNSName ? -1 : 1));
  if (peers.length === 0) return undefined;
  const rows = peers.map((peer) => [
    ` ${peer.TailscaleIPs[0] ?? ""}`,
    peer.DNSName.replace(/\.$/, ""),
    "-",
    "-",
    peer.ExitNode ? "selected" : peer.Online ? "-" : "offline",
  ]);
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

function columns(rows: readonly (readonly string[])[]): readonly string[] {
  const widths = HEADER.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row.map((cell, i) => cell.padEnd(Math.max(MIN_WIDTH, (widths[i] ?? 0) + PADDING))).join(""),
  );
}
