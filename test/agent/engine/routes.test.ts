import { Prefix } from "../../../agent/src/base/address.ts";
import { NodePublic } from "../../../agent/src/base/keys.ts";
import type { MapNode } from "../../../agent/src/core/control/net-map.ts";
import { acceptedRoutes, ownAddressesOnly } from "../../../agent/src/engine/peer.ts";

const key = NodePublic.fromBytes(new Uint8Array(32).fill(7));
const other = NodePublic.fromBytes(new Uint8Array(32).fill(8));
const OFFER = [
  "100.64.0.7/32",
  "10.1.0.0/16",
  "10.2.0.9/32",
  "0.0.0.0/0",
  "::/0",
  "169.254.0.0/16",
  "224.0.0.0/4",
];
const node = {
  key,
  addresses: [Prefix.parse("100.64.0.7/32")],
  allowedIps: OFFER.map(Prefix.parse),
} as unknown as MapNode;

test.each([
  ["nothing was asked for", ownAddressesOnly, ["100.64.0.7/32"]],
  ["subnets were", { subnets: true, exitNode: undefined }, ["100.64.0.7/32", "10.1.0.0/16", "10.2.0.9/32"]],
  ["it is the exit node", { subnets: false, exitNode: key }, ["100.64.0.7/32", "0.0.0.0/0", "::/0"]],
  ["another one is", { subnets: false, exitNode: other }, ["100.64.0.7/32"]],
])("where %s, of a peer's offer these routes are used", (_, wishes, want) => {
  expect(acceptedRoutes(node, wishes).map(({ text }) => text)).toEqual(want);
});
