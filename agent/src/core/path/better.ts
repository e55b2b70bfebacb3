/** Which of two addresses at which a peer answers is the better one: the rule that both ends follow. */
import type { Ip, IpPort } from "../../base/address.ts";
import type { Millis } from "../../base/time.ts";

/** Points on top of the 0–100 for speed (wgengine/magicsock, betterAddr). */
const LOOPBACK_BONUS = 50;
const LINK_LOCAL_BONUS = 30;
const PRIVATE_BONUS = 20;
const V6_BONUS = 10;
const NANOS_PER_MILLI = 1e6;

export interface AddressQuality {
  readonly address: IpPort;
  /** The round trip; 0 where it was never measured. */
  readonly latency: Millis;
  /** The largest packet known to pass, in bytes with its IP header; 0 where unknown. */
  readonly wireMtu: number;
  /** Of the peer relay in between; `undefined` on a direct path. */
  readonly vni?: number | undefined;
}

/** Whether `a` is better than `b`, by enough to move to it. `undefined` stands for no address. */
export function betterAddress(a: AddressQuality | undefined, b: AddressQuality | undefined): boolean {
  if (a === undefined) return false;
  if (b === undefined) return true;
  if (a.address.text === b.address.text && a.vni === b.vni) return a.wireMtu > b.wireMtu;
  if ((a.vni === undefined) !== (b.vni === undefined)) return a.vni === undefined;
  const aPoints = speedPoints(a, b) + bonus(a.address.ip);
  const bPoints = speedPoints(b, a) + bonus(b.address.ip);
  if (aPoints <= 1 && bPoints === 0) return false; // one percent is noise
  return aPoints > bPoints;
}

/** By how many percent `one` is faster, in the integers that the peer computes with. */
function speedPoints(one: AddressQuality, other: AddressQuality): number {
  const fast = Math.round(one.latency * NANOS_PER_MILLI);
  const slow = Math.round(other.latency * NANOS_PER_MILLI);
  return fast < slow ? 100 - Math.floor((fast * 100) / slow) : 0;
}

function bonus(ip: Ip): number {
  let points = ip.isV4 ? 0 : V6_BONUS;
  if (ip.isLoopback) points += LOOPBACK_BONUS;
  else if (ip.isLinkLocal) points += LINK_LOCAL_BONUS;
  else if (ip.isPrivate) points += PRIVATE_BONUS;
  return points;
}
