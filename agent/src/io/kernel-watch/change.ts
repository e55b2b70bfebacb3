/** What somebody did to the kernel's network, as far as those who watch it tell it apart. */
import type { Ip } from "../../base/address.ts";

export type KernelChange =
  | { readonly kind: "rule-gone"; readonly priority: number }
  | { readonly kind: "route-gone"; readonly table: number }
  | { readonly kind: "address-gone"; readonly ip: Ip }
  | { readonly kind: "device-down"; readonly device: string }
  /** A table of nftables, of the family inet. */
  | { readonly kind: "table-gone"; readonly name: string }
  /** Something that was not told: it may have been any of these. */
  | { readonly kind: "lost" }
  | { readonly kind: "other" };
