/** The topology as a few lines of text. */
import { letsIn } from "./expectation.ts";
import type { NatKind } from "./firewall.ts";
import { RELAY_DELAY_MS, type Topology } from "./topology.ts";

const NAT_LABEL: Readonly<Record<NatKind, string>> = {
  easy: "easy NAT",
  hard: "hard NAT",
  "udp-blocked": "UDP blocked",
};

/** @param port the exit node's UDP port */
export function drawTopology({ cast }: Topology, port: number): string[] {
  const { instance, publicIp, namespace } = cast.exitNode;
  const open = cast.clients.some(({ natIp }) => letsIn(instance, port, natIp));
  const left = cast.clients.map(
    ({ namespace: name, nat, natIp }) => `${name} ──[${NAT_LABEL[nat]} ${natIp.text}]──`,
  );
  const right = [
    `[internet gateway ${publicIp.text}]──[udp/${port} ${open ? "open" : "closed"}]── ${namespace} ${instance.privateIp.text}`,
    `coordination ${cast.control.ip.text}`,
    `≈ ${RELAY_DELAY_MS} ms ≈ relay ${cast.relay.code} ${cast.relay.ip.text}`,
  ];
  const width = Math.max(...left.map((line) => line.length));
  return Array.from({ length: Math.max(left.length, right.length) }, (_, i) => {
    const from = left[i]?.padEnd(width, "─") ?? " ".repeat(width);
    return `${from}${joint(i, left.length)}──${right[i] ?? ""}`.trimEnd();
  });
}

function joint(row: number, rows: number): string {
  if (row === 0) return "┬";
  return row === rows - 1 ? "┴" : "┼";
}
