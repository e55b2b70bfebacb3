import fc from "fast-check";
import {
  decodeMessage,
  encodeCookieReply,
  encodeInitiation,
  encodeResponse,
  encodeTransport,
} from "../../../../agent/src/core/wireguard/messages.ts";
import { hex } from "../../../vectors/load.ts";
import { cookieVectors, handshakeVectors } from "./vector.ts";

const index = fc.nat(0xffffffff);
const bytes = (length: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: length, maxLength: length });

test.each(handshakeVectors)("reads the published messages: $name", (v) => {
  expect(decodeMessage(hex(v.initiation))).toMatchObject({ kind: "initiation", sender: v.initiator_index });
  expect(decodeMessage(hex(v.response))).toMatchObject({
    kind: "response",
    sender: v.responder_index,
    receiver: v.initiator_index,
  });
  for (const { packet, counter, receiver } of v.transport) {
    expect(decodeMessage(hex(packet))).toMatchObject({
      kind: "transport",
      receiver,
      counter: BigInt(counter),
    });
  }
});

test.each(cookieVectors)("reads the published cookie reply", (v) => {
  expect(decodeMessage(hex(v.reply))).toMatchObject({ kind: "cookie-reply", nonce: hex(v.nonce) });
});

test("an initiation survives the wire", () => {
  const shape = { sender: index, ephemeral: bytes(32), sealedStatic: bytes(48), sealedTimestamp: bytes(28) };
  fc.assert(
    fc.property(fc.record(shape), (message) => {
      expect(decodeMessage(encodeInitiation(message))).toEqual({ kind: "initiation", ...message });
    }),
  );
});

test("a response survives the wire", () => {
  const shape = { sender: index, receiver: index, ephemeral: bytes(32), sealedNothing: bytes(16) };
  fc.assert(
    fc.property(fc.record(shape), (message) => {
      expect(decodeMessage(encodeResponse(message))).toEqual({ kind: "response", ...message });
    }),
  );
});

test("a cookie reply survives the wire", () => {
  fc.assert(
    fc.property(fc.record({ receiver: index, nonce: bytes(24), sealedCookie: bytes(32) }), (message) => {
      expect(decodeMessage(encodeCookieReply(message))).toEqual({ kind: "cookie-reply", ...message });
    }),
  );
});

test("a transport message survives the wire, with any counter", () => {
  const shape = {
    receiver: index,
    counter: fc.bigInt(0n, 2n ** 64n - 1n),
    sealed: fc.uint8Array({ minLength: 16 }),
  };
  fc.assert(
    fc.property(fc.record(shape), (message) => {
      expect(decodeMessage(encodeTransport(message))).toEqual({ kind: "transport", ...message });
    }),
  );
});

test.each([
  { name: "nothing", bytes: "", want: "bad-length" },
  { name: "three bytes", bytes: "010000", want: "bad-length" },
  { name: "an initiation cut short", bytes: "01000000" + "00".repeat(143), want: "bad-length" },
  { name: "an initiation too long", bytes: "01000000" + "00".repeat(145), want: "bad-length" },
  { name: "a response of another length", bytes: "02000000" + "00".repeat(87), want: "bad-length" },
  { name: "a cookie reply of another length", bytes: "03000000" + "00".repeat(61), want: "bad-length" },
  { name: "a transport message without a tag", bytes: "04000000" + "00".repeat(27), want: "bad-length" },
  { name: "type 0", bytes: "00000000", want: "unknown-type" },
  { name: "type 5", bytes: "05000000", want: "unknown-type" },
  { name: "a reserved byte that is set", bytes: "04000001" + "00".repeat(28), want: "unknown-type" },
])("refuses $name", ({ bytes: text, want }) => {
  expect(decodeMessage(hex(text))).toBe(want);
});

test("any bytes are a message or are refused", () => {
  const anyBytes = fc.oneof(
    fc.uint8Array(),
    fc.tuple(fc.nat(5), fc.uint8Array({ maxLength: 200 })).map(typed),
  );
  fc.assert(fc.property(anyBytes, (input) => expect(decodeMessage(input)).toBeDefined()));
});

function typed([type, rest]: readonly [number, Uint8Array]): Uint8Array {
  return Uint8Array.of(type, 0, 0, 0, ...rest);
}
