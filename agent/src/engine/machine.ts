import type { IpPort } from "../base/address.ts";
import type { Instant } from "../base/time.ts";

/** A datagram to send from the tunnel's one UDP port. */
export interface Datagram {
  readonly to: IpPort;
  readonly payload: Uint8Array;
  /** Lost rather than cut into fragments: it asks how much the path carries. */
  readonly whole?: boolean;
}

/**
 * The contract between the pure rooms and whoever drives them.
 *
 * Give it ONE input, then call every `poll…` until it returns nothing, then wake it at
 * `pollTimeout()`. Calling `handleTimeout` sooner does no harm.
 */
export interface Machine {
  handleTimeout(now: Instant): void;
  pollTimeout(): Instant | undefined;
}
