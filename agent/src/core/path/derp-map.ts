/** The relay map (DERPMap of tailcfg): which regions there are and how to reach their nodes. */
import { type RegionId, regionId } from "./path.ts";

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
  /** Where STUN goes in tests, instead of the node's own address. */
  readonly stunTestIp?: string | undefined;
}

export interface DerpRegion {
  readonly id: RegionId;
  /** Short, such as "nyc": what `ping` and `status` show. */
  readonly code: string;
  readonly name: string;
  readonly avoid: boolean;
  readonly noMeasureNoHome: boolean;
  readonly nodes: readonly DerpNode[];
  readonly latitude?: number | undefined;
  readonly longitude?: number | undefined;
}

export interface DerpMap {
  readonly regions: ReadonlyMap<RegionId, DerpRegion>;
  /** Factors by which latencies are multiplied when the home region is chosen. */
  readonly regionScore: ReadonlyMap<RegionId, number>;
  readonly omitDefaultRegions?: boolean | undefined;
}

export const emptyDerpMap: DerpMap = { regions: new Map(), regionScore: new Map() };

const DEFAULT_STUN_PORT = 3478;
export const DEFAULT_DERP_PORT = 443;

/** The DERPMap as it is sent: see tailcfg/derpmap.go. */
export interface DerpNodeJson {
  readonly Name: string;
  readonly RegionID: number;
  readonly HostName: string;
  readonly CertName?: string;
  readonly IPv4?: string;
  readonly IPv6?: string;
  readonly STUNPort?: number;
  readonly STUNOnly?: boolean;
  readonly DERPPort?: number;
  readonly InsecureForTests?: boolean;
  readonly STUNTestIP?: string;
  readonly CanPort80?: boolean;
}

export interface DerpRegionJson {
  readonly RegionID: number;
  readonly RegionCode: string;
  readonly RegionName: string;
  readonly Latitude?: number;
  readonly Longitude?: number;
  readonly Avoid?: boolean;
  readonly NoMeasureNoHome?: boolean;
  readonly Nodes: readonly DerpNodeJson[];
}

export interface DerpMapJson {
  readonly HomeParams?: { readonly RegionScore: Readonly<Record<string, number>> };
  readonly Regions: Readonly<Record<string, DerpRegionJson>>;
  readonly omitDefaultRegions?: boolean;
}

/**
 * Reads a map, or a change to `previous`: what the JSON leaves out stays as it was.
 *
 * A region or node that makes no sense is left out of the result, so that one bad entry does not
 * cost the others. What is no map at all changes nothing.
 */
export function parseDerpMap(json: unknown, previous: DerpMap = emptyDerpMap): DerpMap {
  if (!isObject(json)) return previous;
  const { Regions: regions, HomeParams: homeParams } = json;
  const score = isObject(homeParams) ? homeParams["RegionScore"] : undefined;
  return {
    regions: isObject(regions) ? parseRegions(regions) : previous.regions,
    regionScore: isObject(score) ? parseScore(score) : previous.regionScore,
    omitDefaultRegions: isObject(regions)
      ? flag(json["omitDefaultRegions"]) || undefined
      : previous.omitDefaultRegions,
  };
}

export function derpMapToJson(map: DerpMap): DerpMapJson {
  const regions = [...map.regions].map(([id, region]) => [String(id), derpRegionToJson(region)] as const);
  const score = [...map.regionScore].map(([id, factor]) => [String(id), factor] as const);
  return {
    ...(score.length === 0 ? {} : { HomeParams: { RegionScore: Object.fromEntries(score) } }),
    Regions: Object.fromEntries(regions),
    ...(map.omitDefaultRegions === true ? { omitDefaultRegions: true } : {}),
  };
}

export function derpRegionToJson(region: DerpRegion): DerpRegionJson {
  return {
    RegionID: region.id,
    RegionCode: region.code,
    RegionName: region.name,
    ...(region.latitude === undefined ? {} : { Latitude: region.latitude }),
    ...(region.longitude === undefined ? {} : { Longitude: region.longitude }),
    ...(region.avoid ? { Avoid: true } : {}),
    ...(region.noMeasureNoHome ? { NoMeasureNoHome: true } : {}),
    Nodes: region.nodes.map(nodeToJson),
  };
}

function nodeToJson(node: DerpNode): DerpNodeJson {
  return {
    Name: node.name,
    RegionID: node.regionId,
    HostName: node.hostName,
    ...(node.certName === undefined ? {} : { CertName: node.certName }),
    ...(node.ipv4 === undefined ? {} : { IPv4: node.ipv4 }),
    ...(node.ipv6 === undefined ? {} : { IPv6: node.ipv6 }),
    ...(node.stunPort === DEFAULT_STUN_PORT ? {} : { STUNPort: node.stunPort }),
    ...(node.stunOnly ? { STUNOnly: true } : {}),
    ...(node.derpPort === DEFAULT_DERP_PORT ? {} : { DERPPort: node.derpPort }),
    ...(node.insecureForTests ? { InsecureForTests: true } : {}),
    ...(node.stunTestIp === undefined ? {} : { STUNTestIP: node.stunTestIp }),
    ...(node.canPort80 ? { CanPort80: true } : {}),
  };
}

type Fields = Readonly<Record<string, unknown>>;

function parseRegions(json: Fields): ReadonlyMap<RegionId, DerpRegion> {
  const regions = new Map<RegionId, DerpRegion>();
  for (const value of Object.values(json)) {
    const region = parseRegion(value);
    if (region !== undefined) regions.set(region.id, region);
  }
  return regions;
}

function parseRegion(json: unknown): DerpRegion | undefined {
  if (!isObject(json)) return undefined;
  const id = wholeNumber(json["RegionID"], 1, MAX_REGION_ID);
  if (id === undefined) return undefined;
  const nodes = Array.isArray(json["Nodes"]) ? json["Nodes"] : [];
  return {
    id: regionId(id),
    code: text(json["RegionCode"]) ?? String(id),
    name: text(json["RegionName"]) ?? "",
    avoid: flag(json["Avoid"]),
    noMeasureNoHome: flag(json["NoMeasureNoHome"]),
    nodes: nodes.map((node: unknown) => parseNode(node, regionId(id))).filter((node) => node !== undefined),
    latitude: finite(json["Latitude"]),
    longitude: finite(json["Longitude"]),
  };
}

function parseNode(json: unknown, region: RegionId): DerpNode | undefined {
  if (!isObject(json)) return undefined;
  const hostName = text(json["HostName"]);
  const stunPort = wholeNumber(json["STUNPort"] ?? 0, -1, 0xffff);
  const derpPort = wholeNumber(json["DERPPort"] ?? 0, 0, 0xffff);
  if (hostName === undefined || stunPort === undefined || derpPort === undefined) return undefined;
  return {
    name: text(json["Name"]) ?? hostName,
    regionId: region,
    hostName,
    certName: text(json["CertName"]),
    ipv4: text(json["IPv4"]),
    ipv6: text(json["IPv6"]),
    stunPort: stunPort === 0 ? DEFAULT_STUN_PORT : stunPort,
    derpPort: derpPort === 0 ? DEFAULT_DERP_PORT : derpPort,
    stunOnly: flag(json["STUNOnly"]),
    canPort80: flag(json["CanPort80"]),
    insecureForTests: flag(json["InsecureForTests"]),
    stunTestIp: text(json["STUNTestIP"]),
  };
}

function parseScore(json: Fields): ReadonlyMap<RegionId, number> {
  const score = new Map<RegionId, number>();
  for (const [key, value] of Object.entries(json)) {
    const [id, factor] = [wholeNumber(Number(key), 1, MAX_REGION_ID), finite(value)];
    if (id !== undefined && factor !== undefined && factor > 0) score.set(regionId(id), factor);
  }
  return score;
}

/** A region travels as the port of 127.3.3.40, so it fits 16 bits. */
const MAX_REGION_ID = 0xffff;

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function wholeNumber(value: unknown, least: number, most: number): number | undefined {
  return typeof value === "number" && Number.isInteger(value) && value >= least && value <= most
    ? value
    : undefined;
}

function finite(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

function flag(value: unknown): boolean {
  return value === true;
}

/** Go leaves empty texts out, so an empty one is none. */
function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}
