import type { IpPort } from "../../base/address.ts";
import { type Instant, type Millis, seconds } from "../../base/time.ts";

/** A learned address (in no map, in no call-me-maybe) is forgotten this long after the peer's last ping from it. */
const LEARNED_LIFETIME: Millis = seconds(45);
/** More addresses than this for one peer are pruned, oldest learned first: a peer may not fill our memory. */
const MAX_CANDIDATES = 100;

/** An address at which a peer may be reached, and why we think so. */
export interface Candidate {
  readonly address: IpPort;
  inMap: boolean;
  inCallMeMaybe: boolean;
  /** When the peer last pinged us from here. */
  heardAt: Instant | undefined;
  /** When we last pinged it. */
  pingedAt: Instant | undefined;
}

/** All the addresses that one peer may have. Where one came from decides when it is forgotten. */
export class Candidates {
  readonly #byText = new Map<string, Candidate>();

  get all(): Iterable<Candidate> {
    return this.#byText.values();
  }

  /** Replaces what the network map says. */
  setFromMap(addresses: readonly IpPort[]): void {
    this.#replace(addresses, "inMap");
  }

  /** Replaces what the peer's last call-me-maybe said. */
  setFromCallMeMaybe(addresses: readonly IpPort[]): void {
    this.#replace(addresses, "inCallMeMaybe");
  }

  /** Notes a ping from `address`. */
  learn(address: IpPort, now: Instant): Candidate {
    const candidate = this.#add(address);
    candidate.heardAt = now;
    return candidate;
  }

  /** As if none had ever been pinged: the network changed, or the peer asks. */
  forgetPings(): void {
    for (const candidate of this.#byText.values()) candidate.pingedAt = undefined;
  }

  prune(now: Instant, keep: IpPort | undefined): void {
    for (const [text, candidate] of this.#byText) {
      if (text === keep?.text) continue;
      if (!isWanted(candidate, now)) this.#byText.delete(text);
    }
  }

  #replace(addresses: readonly IpPort[], mark: "inMap" | "inCallMeMaybe"): void {
    for (const candidate of this.#byText.values()) candidate[mark] = false;
    for (const address of addresses) {
      if (isUsable(address)) this.#add(address)[mark] = true;
    }
    for (const [text, { inMap, inCallMeMaybe, heardAt }] of this.#byText) {
      if (!inMap && !inCallMeMaybe && heardAt === undefined) this.#byText.delete(text);
    }
  }

  #add(address: IpPort): Candidate {
    const known = this.#byText.get(address.text);
    if (known !== undefined) return known;
    if (this.#byText.size >= MAX_CANDIDATES) this.#dropOne();
    const candidate: Candidate = {
      address,
      inMap: false,
      inCallMeMaybe: false,
      heardAt: undefined,
      pingedAt: undefined,
    };
    this.#byText.set(address.text, candidate);
    return candidate;
  }

  #dropOne(): void {
    for (const [text, { inMap, inCallMeMaybe }] of this.#byText) {
      if (inMap || inCallMeMaybe) continue;
      this.#byText.delete(text);
      return;
    }
    for (const text of this.#byText.keys()) {
      this.#byText.delete(text);
      return;
    }
  }
}

function isWanted({ inMap, inCallMeMaybe, heardAt }: Candidate, now: Instant): boolean {
  return inMap || inCallMeMaybe || (heardAt !== undefined && now - heardAt < LEARNED_LIFETIME);
}

/** Link-local IPv6 has no meaning without a zone; port 0 and multicast can not be sent to. */
function isUsable({ ip, port }: IpPort): boolean {
  return port !== 0 && !ip.isMulticast && !ip.isUnspecified && !(ip.isLinkLocal && !ip.isV4);
}
