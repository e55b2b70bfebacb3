/**
 * A packet device without the kernel: for tests, and for machines where there is no TUN.
 *
 * Nobody stands behind it, so it answers pings to its own addresses itself; a peer sees a host that is up.
 */
import type { Ip } from "../base/address.ts";
import { buildEcho, parseEcho } from "../core/ip/icmp.ts";
import { destinationIp, parsePacket, sourceIp } from "../core/ip/packet.ts";
import type { PacketDevice } from "./tun.ts";

export interface MemoryDevice extends PacketDevice {
  readonly kind: "memory";
  /** The host sends `packet` into the tunnel. */
  inject(packet: Uint8Array): void;
  /** Sees each packet that came out of the tunnel and was not answered here. Replaces the former one. */
  onWritten(see: (packet: Uint8Array) => void): void;
  /** The host's addresses in the tunnel: pings to these are answered. */
  setAddresses(addresses: readonly Ip[]): void;
}

export interface MemoryDeviceOptions {
  /** @default "memory" */
  readonly name?: string;
  /** @default none */
  readonly addresses?: readonly Ip[];
}

export function createMemoryDevice(options: MemoryDeviceOptions = {}): MemoryDevice {
  const { name = "memory", addresses = [] } = options;
  let own = textsOf(addresses);
  let open = true;
  let receive: (packets: readonly Uint8Array[]) => void = () => {};
  let see: (packet: Uint8Array) => void = () => {};
  const inject = (packet: Uint8Array): void => {
    if (open) receive([packet]);
  };
  return {
    name,
    kind: "memory",
    inject,
    onPackets(next) {
      receive = next;
    },
    onWritten(next) {
      see = next;
    },
    setAddresses(next) {
      own = textsOf(next);
    },
    write(packet) {
      if (!open) return;
      const reply = answerTo(packet, own);
      if (reply === undefined) see(packet.slice());
      else queueMicrotask(() => inject(reply)); // the writer is still at work on its own input
    },
    close() {
      open = false;
      return Promise.resolve();
    },
  };
}

function textsOf(addresses: readonly Ip[]): ReadonlySet<string> {
  return new Set(addresses.map((ip) => ip.text));
}

/** The reply to an echo request for one of `own`; undefined for every other packet. */
function answerTo(bytes: Uint8Array, own: ReadonlySet<string>): Uint8Array | undefined {
  const packet = parsePacket(bytes);
  if (typeof packet === "string") return undefined;
  const echo = parseEcho(packet);
  if (typeof echo === "string" || echo.kind !== "request") return undefined;
  const self = destinationIp(packet);
  if (!own.has(self.text)) return undefined;
  return buildEcho(self, sourceIp(packet), { ...echo, kind: "reply" });
}
