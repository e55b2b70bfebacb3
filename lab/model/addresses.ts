/** Gives out what AWS would choose: private addresses of subnets, and dynamic public ones. The same in every run. */
import { Ip } from "../../agent/src/base/address.ts";
import { UsageError } from "../../agent/src/base/errors.ts";
import { publicAddress } from "../terraform-fixture.ts";
import type { Subnet } from "./model.ts";
import { nthAddress } from "./resources.ts";

/** AWS keeps the first four addresses of a subnet; the lab's machines start higher where there is room, as a person numbers them. */
const FIRST_HOST = 10;
const FIRST_HOST_OF_SMALL = 4;
const SMALL_BITS = 28;

export class Addresses {
  readonly #taken = new Map<string, Set<string>>();
  readonly #dynamic = new Map<number, number>();

  /** Marks an address as given by the stack itself. */
  reserve(subnet: Subnet, ip: Ip): Ip {
    this.#of(subnet).add(ip.text);
    return ip;
  }

  release(subnet: Subnet, ip: Ip): void {
    this.#of(subnet).delete(ip.text);
  }

  /** @throws UsageError when the subnet is full */
  privateIp(subnet: Subnet): Ip {
    const { cidr } = subnet;
    const first = cidr.bits >= SMALL_BITS ? FIRST_HOST_OF_SMALL : FIRST_HOST;
    const last = Math.min(2 ** (32 - cidr.bits) - 2, MOST_HOSTS);
    for (let n = first; n <= last; n++) {
      const ip = nthAddress(cidr, n);
      if (!this.#of(subnet).has(ip.text)) return this.reserve(subnet, ip);
    }
    throw new UsageError("lab-stack", `${subnet.address} (${cidr.text}) has no address left`);
  }

  /** The IPv6 address that goes with a private one. */
  ipv6(subnet: Subnet, privateIp: Ip): Ip | undefined {
    if (subnet.ipv6 === undefined) return undefined;
    const host = privateIp.bytes.reduce((all, byte, i) => (i < 2 ? 0 : all * 256 + byte), 0);
    return nthAddress(subnet.ipv6, host);
  }

  /** @param after how many Elastic IPs the stack has */
  dynamicPublicIp(stackIndex: number, after: number): Ip {
    const next = this.#dynamic.get(stackIndex) ?? after;
    this.#dynamic.set(stackIndex, next + 1);
    return Ip.parse(publicAddress(stackIndex, next));
  }

  #of(subnet: Subnet): Set<string> {
    const known = this.#taken.get(subnet.id);
    if (known !== undefined) return known;
    const made = new Set<string>();
    this.#taken.set(subnet.id, made);
    return made;
  }
}

const MOST_HOSTS = 4096;
