/** The ways by which packets reach a peer. Every protocol may name one; only the engine uses it. */
import { Ip, IpPort } from "../../base/address.ts";
import type { Branded } from "../../base/time.ts";

/** A DERP region's number in the relay map. */
export type RegionId = Branded<number, "RegionId">;

export const regionId = (n: number): RegionId => n as RegionId;

/** A way to reach a peer, and where a packet came from. */
export type Path =
  { readonly kind: "direct"; readonly to: IpPort } | { readonly kind: "relay"; readonly region: RegionId };

export function direct(to: IpPort): Path {
  return { kind: "direct", to };
}

export function relay(region: RegionId): Path {
  return { kind: "relay", region };
}

/** The address that stands for a relay in disco messages; the port is the region's number. */
const RELAY_IP = Ip.parse("127.3.3.40");

/** The address of a path as disco writes it. */
export function addressOf(path: Path): IpPort {
  return path.kind === "direct" ? path.to : new IpPort(RELAY_IP, path.region);
}

/** A text that is equal for equal paths: "203.0.113.7:41641", or "127.3.3.40:900" for a relay. */
export function pathText(path: Path): string {
  return addressOf(path).text;
}
