/** The entry of a relay in the map by which clients find it: DERPMap of tailcfg, as Tailscale and headscale take it. */
import type { Acme } from "./acme.ts";
import type { AgentBundle } from "./agent-bundle.ts";
import type { RelaySettings } from "./agent-user-data.ts";
import { STUN_PORT } from "./tunnel-firewall.ts";
import type { MachineProps } from "./agent-instance.ts";
import { given } from "./given.ts";

export interface RelayRegion {
  /**
   * Its number, from 1 to 65535, once in a network; 900 to 999 are for own relays.
   * @default 900
   */
  readonly regionId?: number;
  /**
   * A short name such as "fra": lower-case letters, digits and hyphens.
   * @default "relay"
   */
  readonly regionCode?: string;
  /**
   * A name for people.
   * @default the code
   */
  readonly regionName?: string;
  /**
   * The DNS name by which clients reach it.
   * @default its address, with a certificate of its own whose hash the agent puts into the map
   */
  readonly hostname?: string;
  /**
   * The pin of the relay's own certificate, as sha256-raw: and 64 hex digits; the relay writes it into derp-map.json at its
   * first start. A map for others needs it where there is no hostname with a public certificate.
   * @default none: clients want a certificate for the name
   */
  readonly certName?: string;
}

export interface DerpMapRegion {
  readonly RegionID: number;
  readonly RegionCode: string;
  readonly RegionName: string;
  readonly Nodes: readonly DerpMapNode[];
}

interface DerpMapNode {
  readonly Name: string;
  readonly RegionID: number;
  readonly HostName: string;
  readonly CertName?: string;
  readonly IPv4: string;
  readonly STUNPort: number;
  readonly DERPPort: number;
}

export function relaySettings(region: RelayRegion, address: string, acme?: Acme): RelaySettings {
  if (acme !== undefined && region.certName !== undefined) {
    throw new Error("relay certName pins its own certificate and acme gets another: leave one of them out.");
  }
  return {
    address,
    ...given({ acme, hostname: region.hostname, regionName: region.regionName }),
    ...numbered(region),
  };
}

export function derpMapRegion(region: RelayRegion, address: string): DerpMapRegion {
  const { regionId, regionCode } = numbered(region);
  return {
    RegionID: regionId,
    RegionCode: regionCode,
    RegionName: region.regionName ?? regionCode,
    Nodes: [
      {
        Name: `${regionId}a`,
        RegionID: regionId,
        HostName: region.hostname ?? address,
        ...(region.certName === undefined ? {} : { CertName: checkedPin(region.certName) }),
        IPv4: address,
        STUNPort: STUN_PORT,
        DERPPort: 443,
      },
    ],
  };
}

/** The whole map, from its regions. Each number once. */
export function derpMap(regions: readonly DerpMapRegion[]): {
  readonly Regions: Record<string, DerpMapRegion>;
} {
  const twice = regions.find(
    (one, i) => regions.findIndex(({ RegionID }) => RegionID === one.RegionID) !== i,
  );
  if (twice !== undefined) {
    throw new Error(
      `Two relays have regionId ${twice.RegionID}: give each a number of its own, such as 900 and 901.`,
    );
  }
  return { Regions: Object.fromEntries(regions.map((region) => [region.RegionID, region])) };
}

function checkedPin(certName: string): string {
  if (!/^sha256-raw:[0-9a-f]{64}$/.test(certName)) {
    throw new Error(
      "relay certName is no pin: give sha256-raw: and the 64 hex digits that derp-map.json on the relay has.",
    );
  }
  return certName;
}

function numbered({ regionId = 900, regionCode = "relay" }: RelayRegion) {
  if (!Number.isInteger(regionId) || regionId < 1 || regionId > 65535) {
    throw new Error(`relay regionId is ${regionId}: give a whole number from 1 to 65535, such as 900.`);
  }
  if (!/^[a-z0-9][a-z0-9-]{0,31}$/.test(regionCode)) {
    throw new Error(
      `relay regionCode is "${regionCode}": give a short name such as "fra" of lower-case letters, digits and hyphens.`,
    );
  }
  return { regionId, regionCode };
}

/** The archive holds programs of one processor. */
export function checkBundle(
  {
    bundle,
    architecture = "arm64",
  }: Pick<MachineProps, "architecture"> & { readonly bundle?: AgentBundle | undefined },
  owner: string,
): void {
  if (bundle === undefined || bundle.architecture === architecture) return;
  throw new Error(
    `${owner} bundle is for ${bundle.architecture} and architecture is ${architecture}: make the AgentBundle with architecture "${architecture}".`,
  );
}
