/** The UDP port of WireGuard, discovery and STUN where none is chosen; the one Tailscale's packages use. */
export const DEFAULT_TUNNEL_PORT = 41641;

/** Returns the port, or the default for none. Anything but a whole number from 1 to 65535 is an error that names `prop`. */
export function tunnelPort(port: number | undefined, prop: string): number {
  if (port === undefined) return DEFAULT_TUNNEL_PORT;
  if (!Number.isInteger(port) || port < 1 || port > 65535) {
    throw new Error(
      `${prop} is ${port}: give a whole number from 1 to 65535, or leave it out for ${DEFAULT_TUNNEL_PORT}.`,
    );
  }
  return port;
}
