/** The fleet as people read it: one line a node, the worst first; colours only where a terminal shows them. */
import type { Fleet, FleetNode, Verdict } from "../health/fleet.ts";

const HEADER = [
  "REGION",
  "INSTANCE",
  "NAME",
  "PATH",
  "HEALTH",
  "PEERS",
  "RELAY",
  "ENDPOINT",
  "EGRESS",
  "VERSION",
  "UPDATED",
];
const COLUMN_GAP = "  ";

/** Lines without line ends. */
export function fleetLines(fleet: Fleet, colours: boolean): readonly string[] {
  const rows = fleet.nodes.map((node) => ({ cells: cellsOf(node), verdict: node.verdict }));
  const widths = HEADER.map((title, i) =>
    Math.max(title.length, ...rows.map(({ cells }) => cells[i]?.length ?? 0)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join(COLUMN_GAP)
      .trimEnd();
  return [
    ...(rows.length === 0 ? [] : [line(HEADER)]),
    ...rows.map(({ cells, verdict }) => (colours ? coloured(line(cells), verdict) : line(cells))),
    ...(rows.length === 0 ? [] : [""]),
    summaryLine(fleet),
  ];
}

/** One line for each region that could not be read. */
export function failureLines({ failures }: Fleet): readonly string[] {
  return failures.map(({ region, message }) => `${region}: ${message}`);
}

function cellsOf(node: FleetNode): readonly string[] {
  const { peers } = node;
  return [
    ...[node.region, node.instance, node.name === "" ? "-" : node.name, node.path],
    node.doubt === null ? node.health : `unknown (${node.doubt})`,
    peers === null ? "-" : `${peers.direct}/${peers.active} direct`,
    ...[node.relay, node.endpoint, node.egress, node.version].map((cell) => cell ?? "-"),
    node.ageSeconds === null ? "-" : `${ageText(node.ageSeconds)} ago`,
  ];
}

function summaryLine({ nodes, regions, summary }: Fleet): string {
  const where = regions.length === 1 ? (regions[0] ?? "") : `${regions.length} regions`;
  if (nodes.length === 0) return `no instance in ${where} has health tags`;
  const counts = Object.entries(summary).filter(([, count]) => count > 0);
  const nodesText = nodes.length === 1 ? "1 node" : `${nodes.length} nodes`;
  return `${nodesText} in ${where}: ${counts.map(([verdict, count]) => `${count} ${verdict}`).join(", ")}`;
}

/** "5s", "12m", "3h" or "9d". */
function ageText(seconds: number): string {
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)}m`;
  return seconds < 86_400 ? `${Math.floor(seconds / 3_600)}h` : `${Math.floor(seconds / 86_400)}d`;
}

/** SGR colours, which every terminal has. */
const COLOURS: Readonly<Record<Verdict, string>> = {
  unhealthy: "31",
  unknown: "35",
  relayed: "33",
  mixed: "33",
  idle: "2",
  direct: "32",
};

function coloured(line: string, verdict: Verdict): string {
  return `\u001b[${COLOURS[verdict]}m${line}\u001b[0m`;
}
