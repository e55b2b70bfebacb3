import fc from "fast-check";
import { Ip } from "../../../../agent/src/base/address.ts";
import { toHex } from "../../../../agent/src/base/bytes.ts";
import { DiscoPublic } from "../../../../agent/src/base/keys.ts";
import { buildPacket } from "../../../../agent/src/core/ip/build.ts";
import {
  describePacket,
  destinationIp,
  parsePacket,
  payloadOf,
  protocol,
  sourceIp,
} from "../../../../agent/src/core/ip/packet.ts";
import type { TsmpMessage } from "../../../../agent/src/core/ip/tsmp.ts";
import { answerTsmpPing, decodeTsmp, encodeTsmp } from "../../../../agent/src/core/ip/tsmp.ts";
import { hex, vectors } from "../../../vectors/load.ts";

interface TsmpCase {
  readonly name: string;
  readonly packet: string;
  readonly src: string;
  readonly dst: string;
  readonly data?: string;
  readonly peerapi_port?: number;
  readonly disco_key?: string;
  readonly proto?: number;
  readonly reason?: string;
  readonly flow_src_port?: number;
  readonly flow_dst_port?: number;
  readonly maybe_broken?: boolean;
}

const { cases, ip_protocol } = vectors<{ cases: readonly TsmpCase[]; ip_protocol: number }>("tsmp.json");

test("TSMP is IP protocol 99", () => {
  expect(protocol.tsmp).toBe(ip_protocol);
});

test.each(cases)("$name is written and read as Tailscale does", (vector) => {
  const message = messageOf(vector);
  const [source, destination] = [Ip.parse(vector.src), Ip.parse(vector.dst)];
  const packet = buildPacket(source, destination, protocol.tsmp, encodeTsmp(message));
  expect(toHex(packet)).toBe(vector.packet);
  const parsed = parsePacket(hex(vector.packet));
  if (typeof parsed === "string") throw new Error(parsed);
  expect(describePacket(parsed)).toMatch(/^TSMP/);
  expect(decodeTsmp(payloadOf(parsed))).toEqual(message);
});

test("every message is read back as written", () => {
  const port = fc.integer({ min: 0, max: 0xffff });
  const data = fc.uint8Array({ minLength: 8, maxLength: 8 });
  const messages: fc.Arbitrary<TsmpMessage> = fc.oneof(
    fc.record({ kind: fc.constant("ping" as const), data }),
    fc.record({ kind: fc.constant("pong" as const), data, peerApiPort: port }),
    fc.record({
      kind: fc.constant("reject" as const),
      protocol: fc.integer({ min: 0, max: 255 }),
      reason: fc.constantFrom("acl", "shields-up", "no-ip-forwarding", "host-firewall", "app-connector"),
      sourcePort: port,
      destinationPort: port,
      maybeBroken: fc.boolean(),
    }),
  );
  fc.assert(fc.property(messages, (message) => expect(decodeTsmp(encodeTsmp(message))).toEqual(message)));
});

test.each([
  ["empty", ""],
  ["unknown-type", "7a00"],
  ["too-short", "7001020304050607"],
  ["too-short", "6f01020304050607080e"],
  ["too-short", `61${"00".repeat(31)}`],
  ["too-short", "2106419c4000"],
  ["unknown-reason", "21065a9c400016"],
])("says %s of %s", (why, bytes) => {
  expect(decodeTsmp(hex(bytes))).toBe(why);
});

test("any bytes are a message or malformed, and never throw", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 50 }), (bytes) => void decodeTsmp(bytes)));
});

test("a ping is answered with its own data, and nothing else is", () => {
  for (const vector of cases) {
    const packet = parsePacket(hex(vector.packet));
    if (typeof packet === "string") throw new Error(packet);
    const answer = answerTsmpPing(packet);
    if (messageOf(vector).kind !== "ping") {
      expect(answer).toBeUndefined();
      continue;
    }
    const pong = parsePacket(answer ?? new Uint8Array());
    if (typeof pong === "string") throw new Error(pong);
    expect([sourceIp(pong).text, destinationIp(pong).text]).toEqual([vector.dst, vector.src]);
    expect(decodeTsmp(payloadOf(pong))).toEqual({
      kind: "pong",
      data: hex(vector.data ?? ""),
      peerApiPort: 0,
    });
  }
});

function messageOf(vector: TsmpCase): TsmpMessage {
  if (vector.disco_key !== undefined) return { kind: "disco-key", key: DiscoPublic.parse(vector.disco_key) };
  if (vector.data === undefined) {
    return {
      kind: "reject",
      protocol: vector.proto ?? -1,
      reason: vector.reason === "A" ? "acl" : "shields-up",
      sourcePort: vector.flow_src_port ?? -1,
      destinationPort: vector.flow_dst_port ?? -1,
      maybeBroken: vector.maybe_broken ?? false,
    };
  }
  const data = hex(vector.data);
  return vector.peerapi_port === undefined
    ? { kind: "ping", data }
    : { kind: "pong", data, peerApiPort: vector.peerapi_port };
}
