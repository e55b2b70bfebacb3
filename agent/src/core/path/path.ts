/** The ways by which packets reach a peer. Every protocol may name one; only the engine uses it. */
import type { IpPort } from "../../base/address.ts";
import type { Branded } from "../../base/time.ts";

/** A DERP region's number in the relay map. */
export type RegionId = Branded<number, "RegionId">;

export const regionId = (n: number): RegionId => n as RegionId;

/** A way to reach a peer, and where a packet came from. */
export type Path =
  | { readonly kind: "direct"; readonly to: IpPort }
  | { readonly kind: "relay"; readonly region: RegionId };

export function direct(to: IpPort): Path {
  return { kind: "direct", to };
}

export function relay(region: RegionId): Path {
  return { kind: "relay", region };
}

/** A text that is equal for equal paths: "203.0.113.7:41641", or "127.3.3.40:900" for a relay (as in disco). */
export function pathText(path: Path): string {
  return path.kind === "direct" ? path.to.text : `127.3.3.40:${path.region}`;
}
