/**
 * The path of a peer that speaks WireGuard and nothing else: one address, which is configured, or from which the peer
 * last proved its key (WireGuard's roaming). There is no relay and no question whether it works.
 */
import type { IpPort } from "../../base/address.ts";
import type { Random } from "../../base/random.ts";
import type { Instant } from "../../base/time.ts";
import { direct, type Path } from "./path.ts";
import { PeerPaths } from "./peer-paths.ts";

export class PlainPath extends PeerPaths {
  readonly #tunnelMtu: number;
  #address: IpPort | undefined;
  #sentAt: Instant | undefined;

  constructor(random: Random, tunnelMtu: number, address: IpPort | undefined) {
    super(random);
    this.#tunnelMtu = tunnelMtu;
    this.#address = address;
  }

  override get mtu(): number {
    return this.#tunnelMtu;
  }

  override handleAuthenticated(from: Path): void {
    if (from.kind === "direct") this.#address = from.to;
  }

  override pathsFor(user: boolean, now: Instant): readonly Path[] {
    if (user) this.#sentAt = now;
    return this.#address === undefined ? [] : [direct(this.#address)];
  }

  override directNow(): { readonly address: IpPort; readonly inDoubt: boolean } | undefined {
    return this.#address === undefined ? undefined : { address: this.#address, inDoubt: false };
  }

  override directAddress(): IpPort | undefined {
    return this.#address;
  }

  override isActive(now: Instant): boolean {
    return this.#sentAt !== undefined && now - this.#sentAt < ACTIVE;
  }

  override ping(): undefined {
    return undefined;
  }

  /** The system may find the way back by itself. */
  override handleSendError(): void {}

  override handleNetworkChange(): void {}

  override setMapEndpoints(): void {}
}

const ACTIVE = 45_000;
