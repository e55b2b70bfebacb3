/** The addresses by which others on the same networks can reach this machine, and when they change. */
import { networkInterfaces } from "node:os";
import { Ip, Prefix } from "../base/address.ts";
import { type Millis, seconds } from "../base/time.ts";

export interface LocalAddressOptions {
  /** Names of our own devices. */
  readonly exclude?: readonly string[];
  /** For everything on one machine: loopback addresses too. @default false */
  readonly loopback?: boolean;
}

export interface WatchOptions extends LocalAddressOptions {
  /** @default 2 s */
  readonly intervalMs?: Millis;
}

/** As in `os.networkInterfaces()`. */
export type Interfaces = Readonly<
  Record<string, readonly { readonly address: string; readonly internal: boolean }[] | undefined>
>;

/** Reading them takes 0.1 ms. A change is a roaming laptop or a new Elastic IP: seconds matter to people only. */
const DEFAULT_INTERVAL: Millis = seconds(2);

/** Devices of tunnels. A path inside another tunnel, or ours, would chase its own tail. */
const TUNNEL_DEVICE = /^(tun|wg|tailscale|sallyport|utun)/;
/** Addresses of a mesh: CGNAT space (RFC 6598), and the range that Tailscale and headscale give out. */
const MESH_RANGES = [Prefix.parse("100.64.0.0/10"), Prefix.parse("fd7a:115c:a1e0::/48")];

/** In a stable order, without loopback, link-local and tunnels. IPv4 link-local counts where there is nothing else. */
export function localAddresses(
  options: LocalAddressOptions = {},
  interfaces: Interfaces = networkInterfaces(),
): readonly Ip[] {
  const { exclude = [], loopback = false } = options;
  const found = new Map<string, Ip>();
  for (const [name, addresses = []] of Object.entries(interfaces)) {
    if (exclude.includes(name) || TUNNEL_DEVICE.test(name)) continue;
    for (const { address, internal } of addresses) {
      const ip = Ip.tryParse(address);
      if (ip === undefined || (!loopback && (internal || ip.isLoopback))) continue;
      if (!MESH_RANGES.some((range) => range.contains(ip))) found.set(ip.text, ip);
    }
  }
  const all = [...found.values()].toSorted((a, b) => (a.text < b.text ? -1 : 1));
  const routable = all.filter((ip) => !ip.isLinkLocal);
  return routable.length > 0 ? routable : all.filter((ip) => ip.isV4);
}

/** Calls back with the new list after each change, until closed. It does not keep the process alive. */
export function watchLocalAddresses(
  onChange: (addresses: readonly Ip[]) => void,
  options: WatchOptions = {},
  read: () => readonly Ip[] = () => localAddresses(options),
): { close(): void } {
  let last = read().join(" ");
  const timer = setInterval(() => {
    const addresses = read();
    const text = addresses.join(" ");
    if (text === last) return;
    last = text;
    onChange(addresses);
  }, options.intervalMs ?? DEFAULT_INTERVAL);
  timer.unref();
  return { close: () => clearInterval(timer) };
}
