/**
 * A wire with a length: packets that go in at one end come out at the other a fixed time later, in order. The kernel's own
 * (netem) is often missing, and the product must not slow itself down for a demonstration, so this is a program between two
 * TUN devices. The devices are moved into their namespaces after they were made; the program keeps their descriptors.
 */
import { openTun, type PacketDevice } from "../agent/src/io/tun.ts";

export interface DelayLineSpec {
  readonly devices: readonly [string, string];
  /** One way. */
  readonly delayMs: number;
}

const MTU = 1500;

/** Opens the devices of all lines; packets flow until the process ends. @throws OperationError */
export async function runDelayLines(specs: readonly DelayLineSpec[]): Promise<void> {
  for (const { devices, delayMs } of specs) {
    const [one, other] = [
      await openTun({ name: devices[0], mtu: MTU }),
      await openTun({ name: devices[1], mtu: MTU }),
    ];
    connect(one, other, delayMs);
    connect(other, one, delayMs);
  }
}

/** "a:b:10" → the line between the devices a and b with 10 ms each way. */
export function parseDelayLine(text: string): DelayLineSpec | undefined {
  const [, a = "", b = "", delay = ""] = /^([^:]+):([^:]+):(\d+(?:\.\d+)?)$/.exec(text) ?? [];
  return a === "" ? undefined : { devices: [a, b], delayMs: Number(delay) };
}

export const formatDelayLine = ({ devices, delayMs }: DelayLineSpec): string =>
  `${devices.join(":")}:${delayMs}`;

function connect(from: PacketDevice, to: PacketDevice, delayMs: number): void {
  const line = new DelayQueue<Uint8Array>(delayMs);
  let armed = false;
  const release = (): void => {
    armed = false;
    for (const packet of line.take(performance.now())) to.write(packet);
    arm();
  };
  const arm = (): void => {
    const due = line.due;
    if (armed || due === undefined) return;
    armed = true;
    setTimeout(release, Math.max(0, Math.floor(due - performance.now())));
  };
  from.onPackets((packets) => {
    const now = performance.now();
    for (const packet of packets) line.put(packet, now);
    arm();
  });
}

/** Timers tick in milliseconds and are late rather than early: what is due within half a tick leaves now. */
const HALF_TICK_MS = 0.5;
/** About 6 MB: a link that is far behind drops, as a real one does. */
const QUEUE_LIMIT = 4096;

/** Holds things back for a fixed time. */
export class DelayQueue<T> {
  readonly #delayMs: number;
  #waiting: { readonly due: number; readonly item: T }[] = [];

  constructor(delayMs: number) {
    this.#delayMs = delayMs;
  }

  /** When the first is due. */
  get due(): number | undefined {
    return this.#waiting[0]?.due;
  }

  put(item: T, now: number): void {
    if (this.#waiting.length < QUEUE_LIMIT) this.#waiting.push({ due: now + this.#delayMs, item });
  }

  /** What is due by now, oldest first. */
  take(now: number): T[] {
    const count = this.#waiting.findIndex(({ due }) => due > now + HALF_TICK_MS);
    const taken = count < 0 ? this.#waiting : this.#waiting.slice(0, count);
    this.#waiting = count < 0 ? [] : this.#waiting.slice(count);
    return taken.map(({ item }) => item);
  }
}
