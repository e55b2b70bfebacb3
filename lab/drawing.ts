/** The topology as a few lines of text. */
import type { Ip } from "../agent/src/base/address.ts";
import { letsIn } from "./expectation.ts";
import type { NatKind } from "./firewall.ts";
import { exitNodeOf, type Topology } from "./topology.ts";
import { RELAY_DELAY_MS } from "./world.ts";

const NAT_LABEL: Readonly<Record<NatKind | "none", string>> = {
  none: "public",
  easy: "easy NAT",
  hard: "hard NAT",
  "udp-blocked": "UDP blocked",
};

/**
 * @param port the exit node's UDP port
 * @param gateway the NAT gateway's address; undefined where there is none
 */
export function drawTopology({ cast }: Topology, port: number, gateway: Ip | undefined): string[] {
  const node = exitNodeOf(cast);
  const [relay] = cast.relays;
  const { publicIp, privateIp, namespace } = node;
  const open = cast.clients.some(({ natIp }) => letsIn(node, port, natIp));
  const left = cast.clients.map(
    ({ namespace: name, nat, natIp }) => `${name} ──[${NAT_LABEL[nat]} ${natIp.text}]──`,
  );
  const right = [
    `[internet gateway ${publicIp.text}]──[udp/${port} ${open ? "open" : "closed"}]── ${namespace} ${privateIp.text}`,
    ...(gateway === undefined ? [] : [`[NAT gateway ${gateway.text}]── its exit traffic`]),
    ...(cast.control === undefined ? [] : [`coordination ${cast.control.ip.text}`]),
    ...(relay === undefined ? [] : [`≈ ${RELAY_DELAY_MS} ms ≈ relay ${relay.namespace} ${relay.ip.text}`]),
  ];
  const width = Math.max(...left.map((line) => line.length));
  return Array.from({ length: Math.max(left.length, right.length) }, (_, i) => {
    const from = left[i]?.padEnd(width, "─") ?? " ".repeat(width);
    const to = right[i];
    return `${from}${joint(i, Math.max(left.length, right.length))}${to === undefined ? "" : `──${to}`}`;
  });
}

function joint(row: number, rows: number): string {
  if (row === 0) return "┬";
  return row === rows - 1 ? "┴" : "┼";
}
