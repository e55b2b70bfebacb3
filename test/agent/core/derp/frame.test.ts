import fc from "fast-check";
import { IpPort } from "../../../../agent/src/base/address.ts";
import { toHex } from "../../../../agent/src/base/bytes.ts";
import { NodePublic } from "../../../../agent/src/base/keys.ts";
import { millis } from "../../../../agent/src/base/time.ts";
import { decodeFrame, encodeFrame, type Frame } from "../../../../agent/src/core/derp/frame.ts";
import {
  encodeClientInfo,
  encodeServerInfo,
  loginKey,
  openClientInfo,
  openServerInfo,
} from "../../../../agent/src/core/derp/login.ts";
import { hex, vectors } from "../../../vectors/load.ts";
import { derpVectors, fixedRandom, keyOf, suite } from "./support.ts";

const { frames, keys } = derpVectors;
const sealed = new Set([0x02, 0x03]);
const serverPublic = NodePublic.parse(keys.server.public);
const clientPublic = NodePublic.parse(keys.client_a.public);

/** The frame that a vector's fields describe. */
function described(type: number, fields: Readonly<Record<string, unknown>>): Frame {
  const text = (name: string): string => String(fields[name]);
  const key = (name: string): NodePublic => NodePublic.parse(text(name));
  switch (type) {
    case 0x01:
      return { kind: "server-key", serverKey: key("server_public") };
    case 0x04:
      return { kind: "send-packet", to: key("dst"), packet: hex(text("packet")) };
    case 0x05:
      return { kind: "recv-packet", from: key("src"), packet: hex(text("packet")) };
    case 0x06:
      return { kind: "keep-alive" };
    case 0x07:
      return { kind: "note-preferred", preferred: fields["preferred"] === true };
    case 0x08:
      return { kind: "peer-gone", peer: key("peer"), reason: Number(fields["reason"]) };
    case 0x09:
      return {
        kind: "peer-present",
        peer: key("peer"),
        address: IpPort.parse(text("ip_port")),
        flags: Number(fields["flags"]),
      };
    case 0x0a:
      return { kind: "forward-packet", from: key("src"), to: key("dst"), packet: hex(text("packet")) };
    case 0x10:
      return { kind: "watch-conns" };
    case 0x11:
      return { kind: "close-peer", peer: key("peer") };
    case 0x12:
      return { kind: "ping", data: hex(text("data")) };
    case 0x13:
      return { kind: "pong", data: hex(text("data")) };
    case 0x14:
      return { kind: "health", problem: text("problem") };
    case 0x15:
      return {
        kind: "restarting",
        reconnectIn: millis(Number(fields["reconnect_in_ms"])),
        tryFor: millis(Number(fields["try_for_ms"])),
      };
    default:
      throw new Error(`a vector of a type that no test knows: ${type}`);
  }
}

test.each(frames.filter((v) => !sealed.has(v.type)))("frame $name has the published bytes", (v) => {
  const wire = hex(v.frame);
  const want = described(v.type, v.fields ?? {});
  expect(decodeFrame(wire[0] ?? 0, wire.subarray(5))).toEqual(want);
  if (!v.name.includes("without reason")) expect(toHex(encodeFrame(want))).toBe(v.frame);
});

test.each(frames.filter((v) => v.type === 0x02))("$name is sealed and opened as published", (v) => {
  const wire = hex(v.frame);
  const frame = decodeFrame(0x02, wire.subarray(5));
  if (typeof frame === "string" || frame.kind !== "client-info") throw new Error("no client info");
  const json = JSON.parse(String(v.fields?.["json"])) as Record<string, unknown>;
  const info = openClientInfo(loginKey(suite, keyOf("server"), frame.client), frame.nonce, frame.box);

  expect(frame.client.text).toBe(v.fields?.["client_public"]);
  expect(info).toEqual({
    version: json["version"],
    canAckPings: json["CanAckPings"],
    meshKey: json["meshKey"],
    isProber: json["IsProber"] ?? false,
    appName: json["AppName"],
  });
  const key = loginKey(suite, keyOf("client_a"), serverPublic);
  if (key === undefined || typeof info === "string") throw new Error("no key");
  expect(toHex(encodeClientInfo(key, clientPublic, info, fixedRandom(frame.nonce)))).toBe(v.frame);
});

test.each(frames.filter((v) => v.type === 0x03))("$name is sealed and opened as published", (v) => {
  const wire = hex(v.frame);
  const frame = decodeFrame(0x03, wire.subarray(5));
  if (typeof frame === "string" || frame.kind !== "server-info") throw new Error("no server info");
  const decoded = derpVectors.decoded_by_client.find((d) => d.name === v.name)?.decoded as {
    TokenBucketBytesPerSecond: number;
    TokenBucketBytesBurst: number;
  };
  const info = openServerInfo(loginKey(suite, keyOf("client_a"), serverPublic), frame.nonce, frame.box);

  expect(info).toEqual({
    version: 2,
    bytesPerSecond: decoded.TokenBucketBytesPerSecond,
    burstBytes: decoded.TokenBucketBytesBurst,
  });
  const key = loginKey(suite, keyOf("server"), clientPublic);
  if (key === undefined || typeof info === "string") throw new Error("no key");
  expect(toHex(encodeServerInfo(key, info, fixedRandom(frame.nonce)))).toBe(v.frame);
});

test("the client info that a fast start carries opens with the server's key", () => {
  const { fast_start_client_info_frame } = vectors<{ fast_start_client_info_frame: string }>(
    "derp-http.json",
  );
  const frame = decodeFrame(0x02, hex(fast_start_client_info_frame).subarray(5));
  if (typeof frame === "string" || frame.kind !== "client-info") throw new Error("no client info");
  expect(
    openClientInfo(loginKey(suite, keyOf("server"), frame.client), frame.nonce, frame.box),
  ).toMatchObject({ version: 2, canAckPings: true });
});

test.each([
  { name: "a server key without its magic", type: 0x01, body: "00".repeat(40), want: "bad-magic" },
  { name: "a server key cut short", type: 0x01, body: "44455250f09f9491", want: "short" },
  { name: "a preference of two bytes", type: 0x07, body: "0101", want: "bad-length" },
  { name: "a preference of none", type: 0x07, body: "", want: "bad-length" },
  { name: "a packet for half a key", type: 0x04, body: "00".repeat(31), want: "short" },
  { name: "a packet above 65536 bytes", type: 0x04, body: "00".repeat(32 + 65_537), want: "too-large" },
  { name: "a ping of seven bytes", type: 0x12, body: "00".repeat(7), want: "short" },
  { name: "a ping of 1001 bytes", type: 0x12, body: "00".repeat(1001), want: "too-large" },
  { name: "a client info without a box", type: 0x02, body: "00".repeat(56), want: "short" },
  { name: "a restart notice cut short", type: 0x15, body: "00000001", want: "short" },
  { name: "a type from the future", type: 0x7f, body: "", want: "unknown-type" },
])("$name is $want", ({ type, body, want }) => {
  expect(decodeFrame(type, hex(body))).toBe(want);
});

test("of a long ping, eight bytes are echoed", () => {
  expect(decodeFrame(0x12, new Uint8Array(1000).fill(5))).toEqual({
    kind: "ping",
    data: new Uint8Array(8).fill(5),
  });
});

test("bytes after a server key, as a newer server may send, are ignored", () => {
  const wire = encodeFrame({ kind: "server-key", serverKey: serverPublic });
  expect(decodeFrame(0x01, Uint8Array.of(...wire.subarray(5), 1, 2, 3))).toMatchObject({
    kind: "server-key",
  });
});

const anyBytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const anyKey = anyBytes(32).map((bytes) => NodePublic.fromBytes(bytes));
const anyPacket = fc.uint8Array({ maxLength: 100 });
const anyMillis = fc.nat().map((n) => millis(n));
const anyFrame: fc.Arbitrary<Frame> = fc.oneof(
  fc.record({ kind: fc.constant("server-key" as const), serverKey: anyKey }),
  fc.record({
    kind: fc.constant("client-info" as const),
    client: anyKey,
    nonce: anyBytes(24),
    box: fc.uint8Array({ minLength: 16 }),
  }),
  fc.record({
    kind: fc.constant("server-info" as const),
    nonce: anyBytes(24),
    box: fc.uint8Array({ minLength: 16 }),
  }),
  fc.record({ kind: fc.constant("send-packet" as const), to: anyKey, packet: anyPacket }),
  fc.record({ kind: fc.constant("recv-packet" as const), from: anyKey, packet: anyPacket }),
  fc.record({ kind: fc.constant("forward-packet" as const), from: anyKey, to: anyKey, packet: anyPacket }),
  fc.record({ kind: fc.constant("note-preferred" as const), preferred: fc.boolean() }),
  fc.record({ kind: fc.constant("peer-gone" as const), peer: anyKey, reason: fc.nat(255) }),
  fc.record({ kind: fc.constant("ping" as const), data: anyBytes(8) }),
  fc.record({ kind: fc.constant("health" as const), problem: fc.string({ unit: "grapheme" }) }),
  fc.record({ kind: fc.constant("restarting" as const), reconnectIn: anyMillis, tryFor: anyMillis }),
);

test("every frame survives the wire", () => {
  fc.assert(
    fc.property(anyFrame, (frame) => {
      const wire = encodeFrame(frame);
      expect(decodeFrame(wire[0] ?? 0, wire.subarray(5))).toEqual(frame);
    }),
  );
});

test("any bytes are a frame or a reason", () => {
  fc.assert(
    fc.property(fc.nat(255), fc.uint8Array({ maxLength: 200 }), (type, body) => {
      expect(["string", "object"]).toContain(typeof decodeFrame(type, body));
    }),
  );
});

test("any box is refused with a reason", () => {
  const key = loginKey(suite, keyOf("server"), clientPublic);
  fc.assert(
    fc.property(anyBytes(24), fc.uint8Array(), (nonce, box) => {
      expect(openClientInfo(key, nonce, box)).toBe("not-ours");
      expect(openServerInfo(key, nonce, box)).toBe("not-ours");
    }),
  );
});

test("a public key that is none gives no box key", () => {
  const key = loginKey(suite, keyOf("server"), NodePublic.fromBytes(new Uint8Array(32)));
  expect(key).toBeUndefined();
  expect(openClientInfo(key, new Uint8Array(24), new Uint8Array(40))).toBe("bad-key");
});
