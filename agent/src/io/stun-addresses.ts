/** Where the STUN servers of a relay map are: the engine asks addresses, the map may give names. */
import type { IpPort } from "../base/address.ts";
import type { DerpMap, DerpNode, DerpRegion } from "../core/path/derp-map.ts";
import type { RegionId } from "../core/path/path.ts";
import { type OwnNetwork, plainNetwork } from "./own-network.ts";

/** By region; a name that has no address now is left out. */
export async function resolveStunServers(
  { regions }: DerpMap,
  network: OwnNetwork = plainNetwork,
): Promise<ReadonlyMap<RegionId, readonly IpPort[]>> {
  const found = [...regions.values()].map(
    async (region) => [region.id, await addressesOf(region, network)] as const,
  );
  return new Map(await Promise.all(found));
}

async function addressesOf({ nodes }: DerpRegion, network: OwnNetwork): Promise<readonly IpPort[]> {
  const asked = nodes
    .filter(({ stunPort }) => stunPort > 0)
    .flatMap((node) => hostsOf(node).map((host) => network.resolve(host, node.stunPort)));
  const answers = await Promise.allSettled(asked);
  return answers.flatMap((answer) => (answer.status === "fulfilled" ? answer.value : []));
}

/** Its literal addresses, or else its name. */
function hostsOf({ hostName, ipv4, ipv6 }: DerpNode): readonly string[] {
  const literal = [ipv4, ipv6].filter((text) => text !== undefined).filter((text) => text !== "none");
  return ipv4 === undefined ? [...literal, hostName] : literal;
}
