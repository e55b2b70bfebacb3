/** What the internet sees, beside what it should see: of exit traffic, and of the tunnel's port. */
import type { Ip, IpPort } from "../../base/address.ts";
import type { Layout } from "./layout.ts";
import type { ExitReason } from "./reasons.ts";

export interface Seen {
  /** Of a packet that left by the egress; `undefined` while nobody has answered one. */
  readonly egress: Ip | undefined;
  /** Of a packet that left from the tunnel's port. */
  readonly ingress: IpPort | undefined;
}

/** @param promised what exit traffic may be seen from; empty is what the cloud tells of the interface, or else anything */
export function judgeProof(layout: Layout, promised: readonly Ip[], seen: Seen): readonly ExitReason[] {
  return [...judgeEgress(layout, promised, seen.egress), ...judgeIngress(layout, seen.ingress)];
}

/** Whether both ways are proven: an answer by each, and both as they should be. */
export function isProven(layout: Layout, promised: readonly Ip[], seen: Seen): boolean {
  return (
    seen.egress !== undefined && seen.ingress !== undefined && judgeProof(layout, promised, seen).length === 0
  );
}

function judgeEgress(layout: Layout, promised: readonly Ip[], seen: Ip | undefined): readonly ExitReason[] {
  if (seen === undefined) {
    const text = `No STUN server has answered by ${layout.egress} yet, so nobody knows what exit traffic is seen from: let UDP 3478 out there.`;
    return [{ code: "egress-unproven", text, closesExit: false }];
  }
  const expected = promised.length > 0 ? promised : layout.egressPublic;
  const isIngress = layout.kind === "split" && includes(layout.ingress.publicAddresses, seen);
  if (!isIngress && (expected.length === 0 || includes(expected, seen))) return [];
  const wanted = expected.length === 0 ? "the NAT gateway's address" : expected.join(" or ");
  const text = `Exit traffic would be seen from ${seen.text}, not from ${wanted}: see the route table of the egress interface's subnet, or correct the egress addresses.`;
  return [{ code: "egress-wrong-address", text, closesExit: true }];
}

function judgeIngress({ ingress }: Layout, seen: IpPort | undefined): readonly ExitReason[] {
  const expected = ingress.publicAddresses;
  if (seen === undefined || expected.length === 0 || includes(expected, seen.ip)) return [];
  const text = `The tunnel is seen at ${seen.text}, not at ${expected.join(" or ")}: see that the address belongs to ${ingress.device} and that its subnet leads to the internet gateway.`;
  return [{ code: "ingress-wrong-address", text, closesExit: false }];
}

function includes(list: readonly Ip[], ip: Ip): boolean {
  return list.some(({ text }) => text === ip.text);
}
