/**
 * A tunnel to plain WireGuard peers, as the file of wg-quick(8) describes it:
 *
 *     [Interface]                          [Peer], any number
 *     PrivateKey = base64                  PublicKey = base64
 *     Address = 10.0.0.1/24, fd00::1/64    PresharedKey = base64
 *     ListenPort = 51820                   AllowedIPs = 10.0.0.2/32, ::/0
 *     MTU = 1420                           Endpoint = host:port, [::1]:port
 *                                          PersistentKeepalive = 25
 *
 * What wg-quick does beside the tunnel (DNS, scripts, tables, marks) is refused: nothing is left out in silence.
 */
import { Ip, Prefix } from "../base/address.ts";
import { ParseError, UsageError } from "../base/errors.ts";
import { clampPrivateKey, KEY_LENGTH, NodePrivate, NodePublic } from "../base/keys.ts";
import { type Millis, seconds } from "../base/time.ts";

export interface WireGuardFile {
  readonly privateKey: NodePrivate;
  readonly addresses: readonly Ip[];
  /** 0: any that is free. */
  readonly listenPort: number;
  readonly mtu: number;
  readonly peers: readonly WireGuardFilePeer[];
}

export interface WireGuardFilePeer {
  readonly publicKey: NodePublic;
  readonly presharedKey: Uint8Array | undefined;
  readonly allowedIps: readonly Prefix[];
  readonly endpoint: { readonly host: string; readonly port: number } | undefined;
  readonly persistentKeepalive: Millis | undefined;
}

/** wg-quick's on Ethernet. */
const DEFAULT_MTU = 1420;
const MAX_MTU = 65_475;

/** @throws UsageError that names every mistake, one a line; a key is never repeated */
export function parseWireGuardFile(text: string, path: string): WireGuardFile {
  const reader = new Reader(path);
  const sections = readSections(text, reader);
  const own = sections.filter(({ name }) => name === "interface");
  if (own.length !== 1) reader.fail(1, `has ${own.length} [Interface] sections: write one`);
  const [section = { name: "interface", line: 1, values: new Map() }] = own;
  const privateKey = reader.need(section, "privatekey", privateKeyOf);
  const addresses = reader.list(section, "address", addressOf);
  const listenPort = reader.take(section, "listenport", (value) => numberOf(value, 0, 65_535)) ?? 0;
  const mtu = reader.take(section, "mtu", (value) => numberOf(value, 1280, MAX_MTU)) ?? DEFAULT_MTU;
  const peers = sections.filter(({ name }) => name === "peer").map((peer) => readPeer(peer, reader));
  reader.refuseRest(sections);
  if (reader.problems.length > 0 || privateKey === undefined)
    throw new UsageError("wireguard-file", reader.problems.join("\n"));
  return { privateKey, addresses, listenPort, mtu, peers: peers.flatMap((peer) => peer ?? []) };
}

function readPeer(section: Section, reader: Reader): WireGuardFilePeer | undefined {
  const publicKey = reader.need(section, "publickey", (value) => NodePublic.fromBytes(keyOf(value)));
  const presharedKey = reader.take(section, "presharedkey", keyOf);
  const allowedIps = reader.list(section, "allowedips", prefixOf);
  const endpoint = reader.take(section, "endpoint", endpointOf);
  const persistentKeepalive = reader.take(section, "persistentkeepalive", (value) =>
    value === "off" ? undefined : seconds(numberOf(value, 0, 65_535)),
  );
  return publicKey && { publicKey, presharedKey, allowedIps, endpoint, persistentKeepalive };
}

interface Section {
  readonly name: string;
  readonly line: number;
  readonly values: Map<string, { readonly line: number; readonly value: string }[]>;
}

const LISTS = new Set(["address", "allowedips"]);

function readSections(text: string, reader: Reader): readonly Section[] {
  const sections: Section[] = [];
  for (const [i, raw] of text.split("\n").entries()) {
    const line = i + 1;
    const content = raw.replace(/#.*/, "").trim();
    if (content === "") continue;
    const name = /^\[(interface|peer)\]$/i.exec(content)?.[1]?.toLowerCase();
    const [, key, value] = /^(\w+)\s*=\s*(.*)$/.exec(content) ?? [];
    const section = sections.at(-1);
    if (name !== undefined) sections.push({ name, line, values: new Map() });
    else if (key === undefined || value === undefined)
      reader.fail(line, "is no [Interface], [Peer] or NAME = VALUE");
    else if (section === undefined) reader.fail(line, "stands before [Interface]");
    else addValue(section, key.toLowerCase(), { line, value });
  }
  return sections;
}

function addValue({ values }: Section, key: string, entry: { line: number; value: string }): void {
  const former = LISTS.has(key) ? (values.get(key) ?? []) : [];
  values.set(key, [...former, entry]);
}

class Reader {
  readonly problems: string[] = [];
  readonly #path: string;
  readonly #known = new Set<string>();

  constructor(path: string) {
    this.#path = path;
  }

  fail(line: number, problem: string): void {
    this.problems.push(`${this.#path}, line ${line}, ${problem}`);
  }

  need<T>(section: Section, key: string, parse: (value: string) => T): T | undefined {
    if (!section.values.has(key)) this.fail(section.line, `[${section.name}] has no ${key}: add it`);
    return this.take(section, key, parse);
  }

  take<T>(section: Section, key: string, parse: (value: string) => T): T | undefined {
    return this.list(section, key, parse).at(-1);
  }

  list<T>(section: Section, key: string, parse: (value: string) => T): readonly T[] {
    this.#known.add(`${section.name} ${key}`);
    return (section.values.get(key) ?? []).flatMap(({ line, value }) => {
      const parts = LISTS.has(key) ? value.split(",").map((part) => part.trim()) : [value.trim()];
      return parts.filter((part) => part !== "").flatMap((part) => this.#parse(line, key, part, parse));
    });
  }

  refuseRest(sections: readonly Section[]): void {
    for (const { name, values } of sections) {
      for (const [key, [entry]] of values)
        if (!this.#known.has(`${name} ${key}`))
          this.fail(entry?.line ?? 1, `${key} in [${name}] is nothing that this tunnel does: remove it`);
    }
  }

  #parse<T>(line: number, key: string, part: string, parse: (value: string) => T): readonly T[] {
    try {
      return [parse(part)];
    } catch (error) {
      if (!(error instanceof ParseError)) throw error;
      this.fail(line, `${key}: ${error.message}`);
      return [];
    }
  }
}

function keyOf(value: string): Uint8Array {
  const bytes = /^[A-Za-z0-9+/]{43}=$/.test(value)
    ? Uint8Array.from(atob(value), (character) => character.charCodeAt(0))
    : undefined;
  if (bytes?.length === KEY_LENGTH) return bytes;
  throw new ParseError(
    "wireguard-key",
    "a key is 44 characters of base64: make one with wg genkey or wg genpsk",
  );
}

function privateKeyOf(value: string): NodePrivate {
  return new NodePrivate(clampPrivateKey(keyOf(value)));
}

function addressOf(value: string): Ip {
  return Ip.parse(value.split("/")[0] ?? "");
}

/** Bits of the host are taken for zero, as WireGuard does. */
function prefixOf(value: string): Prefix {
  const [address = "", bits] = value.split("/");
  const ip = Ip.parse(address);
  const size = ip.isV4 ? 32 : 128;
  const length = bits === undefined ? size : numberOf(bits, 0, size);
  const bytes = ip.bytes.slice();
  for (let bit = length; bit < size; bit++) bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) & ~(0x80 >> (bit & 7));
  return Prefix.parse(`${Ip.fromBytes(bytes).text}/${length}`);
}

function endpointOf(value: string): { readonly host: string; readonly port: number } {
  const [, host, port] = /^(\[[0-9a-fA-F:.]+\]|[^\s:]+):(\d{1,5})$/.exec(value) ?? [];
  if (host === undefined || port === undefined)
    throw new ParseError("wireguard-endpoint", "an endpoint is HOST:PORT or [IPV6]:PORT");
  return { host, port: numberOf(port, 1, 65_535) };
}

function numberOf(value: string, min: number, max: number): number {
  const number = /^\d{1,6}$/.test(value) ? Number(value) : -1;
  if (number >= min && number <= max) return number;
  throw new ParseError("wireguard-number", `"${value}" is no number from ${min} to ${max}`);
}
