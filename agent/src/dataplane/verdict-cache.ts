/**
 * What was decided for packets like this one: a small table by address and port, so that the tables and the
 * filter are asked once for each conversation and not for each packet. Cleared whenever a decision changes.
 *
 * An entry is for one direction: its key is made of both addresses, and of the ports where the verdict depends
 * on them.
 */
const ENTRIES = 1024;
/** 32-bit words: value + 1, ports, version and protocol, then both addresses. */
const WORDS = 11;

export class VerdictCache {
  readonly #table = new Int32Array(ENTRIES * WORDS);
  readonly #until = new Float64Array(ENTRIES);
  readonly #view: DataView;

  constructor(memory: ArrayBufferLike) {
    this.#view = new DataView(memory);
  }

  clear(): void {
    this.#table.fill(0);
  }

  /**
   * The value kept for the packet at `packet` (IP version `version`), or -1. `protocol`, 0 for any, and `ports`: what
   * else the verdict depends on.
   */
  find(packet: number, version: number, protocol: number, ports: number, now: number): number {
    const entry = this.#entryOf(packet, version, ports);
    const table = this.#table;
    const value = table[entry] ?? 0;
    if (value === 0 || table[entry + 1] !== ports || table[entry + 2] !== (version | (protocol << 8)))
      return -1;
    if (now > (this.#until[entry / WORDS] ?? 0)) return -1;
    const view = this.#view;
    const addresses = version === 4 ? packet + 12 : packet + 8;
    const words = version === 4 ? 2 : 8;
    for (let i = 0; i < words; i++) {
      if (table[entry + 3 + i] !== view.getInt32(addresses + 4 * i, true)) return -1;
    }
    return value - 1;
  }

  keep(packet: number, version: number, protocol: number, ports: number, value: number, until: number): void {
    const entry = this.#entryOf(packet, version, ports);
    const table = this.#table;
    table[entry] = value + 1;
    table[entry + 1] = ports;
    table[entry + 2] = version | (protocol << 8);
    this.#until[entry / WORDS] = until;
    const addresses = version === 4 ? packet + 12 : packet + 8;
    for (let i = 0; i < (version === 4 ? 2 : 8); i++) {
      table[entry + 3 + i] = this.#view.getInt32(addresses + 4 * i, true);
    }
  }

  #entryOf(packet: number, version: number, ports: number): number {
    const view = this.#view;
    const mixed =
      version === 4
        ? view.getInt32(packet + 12, true) ^ Math.imul(view.getInt32(packet + 16, true), 0x9e3779b1)
        : view.getInt32(packet + 20, true) ^ Math.imul(view.getInt32(packet + 36, true), 0x9e3779b1);
    const hash = Math.imul(mixed ^ ports ^ (ports >>> 15), 0x85ebca6b);
    return ((hash >>> 16) & (ENTRIES - 1)) * WORDS;
  }
}
