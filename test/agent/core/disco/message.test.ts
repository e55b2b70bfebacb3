import fc from "fast-check";
import { Ip, IpPort } from "../../../../agent/src/base/address.ts";
import { toHex } from "../../../../agent/src/base/bytes.ts";
import { DiscoPublic, NodePublic } from "../../../../agent/src/base/keys.ts";
import {
  type BindRelay,
  decodeDisco,
  type DiscoMessage,
  encodeDisco,
  type RelayEndpoint,
} from "../../../../agent/src/core/disco/message.ts";
import { hex, vectors } from "../../../vectors/load.ts";

interface EndpointFields {
  readonly addr_ports: readonly string[];
  readonly bind_lifetime_ns: number;
  readonly client_disco: readonly [string, string];
  readonly lamport_id: number;
  readonly server_disco: string;
  readonly steady_state_lifetime_ns: number;
  readonly vni: number;
}
interface Fields extends EndpointFields {
  readonly txid: string;
  readonly node_key?: string;
  readonly padding?: number;
  readonly src: string;
  readonly endpoints: readonly string[];
  readonly challenge: string;
  readonly generation: number;
  readonly remote_key: string;
  readonly endpoint: EndpointFields;
}
interface MessageVector {
  readonly name: string;
  readonly type: number;
  readonly version: number;
  readonly summary: string;
  readonly plaintext: string;
  readonly fields: Fields;
}
interface ParseVector {
  readonly name: string;
  readonly plaintext: string;
  readonly error?: string;
  readonly has_node_key?: boolean;
  readonly padding?: number;
  readonly endpoints?: number;
  readonly result?: string;
}
const { messages, parse } = vectors<{
  readonly messages: readonly MessageVector[];
  readonly parse: readonly ParseVector[];
}>("disco.json");

test.each(messages)("writes and reads the published $name", (v) => {
  const message = messageOf(v);
  expect(toHex(encodeDisco(message))).toBe(v.plaintext);
  expect(comparable(decodeDisco(hex(v.plaintext)))).toEqual(comparable(message));
  expect([...hex(v.plaintext).subarray(0, 2)]).toEqual([v.type, v.version]);
});

test.each(parse)("reads leniently or refuses: $name", (v) => {
  const message = decodeDisco(hex(v.plaintext));
  if (v.error !== undefined) {
    expect(message).toBe(v.error.startsWith("unknown message type") ? "unknown-type" : "short");
    return;
  }
  if (typeof message === "string") throw new Error(message);
  expect(summaryOf(message)).toBe(v.result);
  if (message.kind === "ping") {
    expect([message.nodeKey !== undefined, message.padding]).toEqual([v.has_node_key, v.padding]);
  }
  if (message.kind === "call-me-maybe") expect(message.endpoints).toHaveLength(v.endpoints ?? NaN);
});

test.each(["07", "08", "09"])("type %s of a version that we do not know is refused", (type) => {
  expect(decodeDisco(hex(`${type}01${"00".repeat(200)}`))).toBe("unknown-version");
});

test("a relay endpoint with a broken list of addresses is refused", () => {
  const [, , , , , , , , , , , via] = messages;
  const bytes = hex(via?.plaintext ?? "");
  expect(decodeDisco(bytes)).toMatchObject({ kind: "call-me-maybe-via" });
  expect(decodeDisco(bytes.subarray(0, -1))).toBe("short");
});

test("every message survives the wire", () => {
  fc.assert(
    fc.property(anyMessage(), (message) => {
      expect(comparable(decodeDisco(encodeDisco(message)))).toEqual(comparable(message));
    }),
  );
});

test("what is read from any bytes is written as bytes that read the same", () => {
  const anyBytes = fc.tuple(fc.integer({ min: 0, max: 11 }), fc.uint8Array({ maxLength: 260 }));
  fc.assert(
    fc.property(anyBytes, ([type, rest]) => {
      const message = decodeDisco(Uint8Array.of(type, ...rest));
      if (typeof message === "string") return;
      expect(comparable(decodeDisco(encodeDisco(message)))).toEqual(comparable(message));
    }),
  );
});

test("no prefix of a message throws, and what a message says is its own copy", () => {
  for (const { plaintext } of messages) {
    const bytes = hex(plaintext);
    for (let length = 0; length <= bytes.length; length++) decodeDisco(bytes.subarray(0, length));
    const message = decodeDisco(bytes);
    const before = comparable(message);
    bytes.fill(0xee);
    expect(comparable(message)).toEqual(before);
  }
});

function messageOf({ type, fields }: MessageVector): DiscoMessage {
  switch (type) {
    case 1: {
      const nodeKey = fields.node_key === undefined ? undefined : NodePublic.parse(fields.node_key);
      return { kind: "ping", txId: hex(fields.txid), nodeKey, padding: fields.padding ?? 0 };
    }
    case 2:
      return { kind: "pong", txId: hex(fields.txid), source: IpPort.parse(fields.src) };
    case 3:
      return { kind: "call-me-maybe", endpoints: fields.endpoints.map(IpPort.parse) };
    case 4:
      return bindOf("bind-relay-endpoint", fields);
    case 5:
      return bindOf("bind-relay-challenge", fields);
    case 6:
      return bindOf("bind-relay-answer", fields);
    case 7:
      return { kind: "call-me-maybe-via", endpoint: endpointOf(fields) };
    case 8: {
      const clientDisco = keyPair(fields.client_disco);
      return { kind: "allocate-relay-request", clientDisco, generation: fields.generation };
    }
    case 9: {
      const endpoint = endpointOf(fields.endpoint);
      return { kind: "allocate-relay-response", generation: fields.generation, endpoint };
    }
    default:
      throw new Error(`a vector of type ${type}`);
  }
}

function bindOf(kind: BindRelay["kind"], { vni, generation, remote_key, challenge }: Fields): BindRelay {
  return { kind, vni, generation, remoteKey: DiscoPublic.parse(remote_key), challenge: hex(challenge) };
}

function endpointOf(fields: EndpointFields): RelayEndpoint {
  return {
    serverDisco: DiscoPublic.parse(fields.server_disco),
    clientDisco: keyPair(fields.client_disco),
    lamportId: BigInt(fields.lamport_id),
    vni: fields.vni,
    bindLifetimeNs: BigInt(fields.bind_lifetime_ns),
    steadyStateLifetimeNs: BigInt(fields.steady_state_lifetime_ns),
    endpoints: fields.addr_ports.map(IpPort.parse),
  };
}

function keyPair([a, b]: readonly [string, string]): readonly [DiscoPublic, DiscoPublic] {
  return [DiscoPublic.parse(a), DiscoPublic.parse(b)];
}

/** The text that the reference implementation logs. */
function summaryOf(message: DiscoMessage): string {
  if (message.kind === "ping")
    return `ping tx=${toHex(message.txId).slice(0, 12)} padding=${message.padding}`;
  return message.kind === "pong" ? `pong tx=${toHex(message.txId).slice(0, 12)}` : message.kind;
}

/** Keys keep their bytes in private fields, which `toEqual` does not see: compare by their text. */
function comparable(message: DiscoMessage | string): unknown {
  return JSON.parse(
    JSON.stringify(message, (_, value: unknown) => {
      if (value instanceof Uint8Array) return toHex(value);
      return typeof value === "bigint" ? `${value}n` : value;
    }),
  );
}

function anyMessage(): fc.Arbitrary<DiscoMessage> {
  const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
  const txId = bytes(12);
  const disco = bytes(32).map((key) => DiscoPublic.fromBytes(key));
  const u32 = fc.nat({ max: 0xffff_ffff });
  const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  const ip = fc.oneof(bytes(4), bytes(16)).map((address) => Ip.fromBytes(address));
  const ipPort = fc.tuple(ip, fc.nat({ max: 0xffff })).map(([address, port]) => new IpPort(address, port));
  const endpoint = fc.record({
    serverDisco: disco,
    clientDisco: fc.tuple(disco, disco),
    lamportId: u64,
    vni: u32,
    bindLifetimeNs: u64,
    steadyStateLifetimeNs: u64,
    endpoints: fc.array(ipPort, { minLength: 1, maxLength: 4 }),
  });
  const nodeKey = bytes(32).map((key) => NodePublic.fromBytes(key));
  const bindKind = fc.constantFrom<BindRelay["kind"][]>(
    "bind-relay-endpoint",
    "bind-relay-challenge",
    "bind-relay-answer",
  );
  return fc.oneof(
    fc.record({ kind: fc.constant("ping" as const), txId, nodeKey, padding: fc.nat({ max: 1400 }) }),
    // Without a key 32 bytes of padding can not be told from one.
    fc.record({
      kind: fc.constant("ping" as const),
      txId,
      nodeKey: fc.constant(undefined),
      padding: fc.nat({ max: 31 }),
    }),
    fc.record({ kind: fc.constant("pong" as const), txId, source: ipPort }),
    fc.record({ kind: fc.constant("call-me-maybe" as const), endpoints: fc.array(ipPort, { maxLength: 5 }) }),
    fc.record({ kind: bindKind, vni: u32, generation: u32, remoteKey: disco, challenge: bytes(32) }),
    fc.record({ kind: fc.constant("call-me-maybe-via" as const), endpoint }),
    fc.record({
      kind: fc.constant("allocate-relay-request" as const),
      clientDisco: fc.tuple(disco, disco),
      generation: u32,
    }),
    fc.record({ kind: fc.constant("allocate-relay-response" as const), generation: u32, endpoint }),
  );
}
