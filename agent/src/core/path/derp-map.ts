/** The relay map (DERPMap of tailcfg): which regions there are and how to reach their nodes. */
import type { RegionId } from "./path.ts";

export interface DerpNode {
  /** Unique over all regions, such as "900a". */
  readonly name: string;
  readonly regionId: RegionId;
  /** TLS server name, HTTP Host, and what DNS is asked for unless an address is given. */
  readonly hostName: string;
  /** The name expected in the certificate, or "sha256-raw:<hex>" which pins the SHA-256 of the DER leaf. */
  readonly certName: string | undefined;
  /** A literal address, undefined to ask DNS, or "none" for a family that is switched off. */
  readonly ipv4: string | undefined;
  readonly ipv6: string | undefined;
  /** UDP. -1 is no STUN. */
  readonly stunPort: number;
  /** TCP. */
  readonly derpPort: number;
  readonly stunOnly: boolean;
  readonly canPort80: boolean;
  readonly insecureForTests: boolean;
}

export interface DerpRegion {
  readonly id: RegionId;
  /** Short, such as "nyc": what `ping` and `status` show. */
  readonly code: string;
  readonly name: string;
  readonly avoid: boolean;
  readonly noMeasureNoHome: boolean;
  readonly nodes: readonly DerpNode[];
}

export interface DerpMap {
  readonly regions: ReadonlyMap<RegionId, DerpRegion>;
  /** Factors by which latencies are multiplied when the home region is chosen. */
  readonly regionScore: ReadonlyMap<RegionId, number>;
}

export const emptyDerpMap: DerpMap = { regions: new Map(), regionScore: new Map() };
