/** Where this node may be reached: the addresses that it tells its peers, in the order of their worth. */
import { type Ip, IpPort } from "../base/address.ts";

/** How an address was found, as the numbers of MapRequest.EndpointTypes (tailcfg). */
export const EndpointType = { local: 1, stun: 2, portmap: 3, stunLocalPort: 4, explicit: 5 } as const;
export type EndpointType = (typeof EndpointType)[keyof typeof EndpointType];

export interface Endpoint {
  readonly address: IpPort;
  readonly type: EndpointType;
}

export interface EndpointSources {
  /** What STUN servers saw: the first IPv4 and IPv6 address reported, then others. */
  readonly stun: readonly IpPort[];
  /** The NAT gives each destination another port. `undefined` while unknown. */
  readonly mappingVaries: boolean | undefined;
  /** The local port was asked for, so a router may forward it. */
  readonly portIsFixed: boolean;
  readonly localPort: number;
  readonly interfaces: readonly Ip[];
  /** Told by the operator. */
  readonly explicit: readonly IpPort[];
}

/** The own endpoints; equal addresses are listed once, under the first type. */
export function ownEndpoints(sources: EndpointSources): readonly Endpoint[] {
  const found = new Map<string, Endpoint>();
  const add = (address: IpPort, type: EndpointType): void => {
    if (!found.has(address.text)) found.set(address.text, { address, type });
  };
  for (const address of sources.stun) add(address, EndpointType.stun);
  const [v4] = sources.stun.filter(({ ip }) => ip.isV4);
  if (sources.mappingVaries === true && sources.portIsFixed && v4 !== undefined) {
    add(new IpPort(v4.ip, sources.localPort), EndpointType.stunLocalPort);
  }
  for (const address of sources.explicit) add(address, EndpointType.explicit);
  for (const ip of sources.interfaces) add(new IpPort(ip, sources.localPort), EndpointType.local);
  return [...found.values()];
}

/** Whether two lists hold the same endpoints, in any order. */
export function sameEndpoints(a: readonly Endpoint[], b: readonly Endpoint[]): boolean {
  if (a.length !== b.length) return false;
  const texts = new Set(a.map(({ address }) => address.text));
  return b.every(({ address }) => texts.has(address.text));
}
