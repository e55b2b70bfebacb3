import fc from "fast-check";
import { Ip, IpPort } from "../../../../agent/src/base/address.ts";
import { toHex, utf8 } from "../../../../agent/src/base/bytes.ts";
import { looksLikeStun } from "../../../../agent/src/core/path/classify.ts";
import { crc32 } from "../../../../agent/src/core/stun/crc32.ts";
import {
  answerBindingRequest,
  decodeBindingRequest,
  decodeBindingResponse,
  encodeBindingRequest,
  encodeBindingResponse,
} from "../../../../agent/src/core/stun/message.ts";
import { hex, vectors } from "../../../vectors/load.ts";

interface StunVector {
  readonly kind: "binding-request" | "binding-response" | "response-decode" | "request-decode";
  readonly name: string;
  readonly packet: string;
  readonly txid: string;
  readonly addr: string;
  readonly is_stun: boolean;
  readonly error?: string;
}
const { cases } = vectors<{ readonly cases: readonly StunVector[] }>("stun.json");
const ofKind = (kind: StunVector["kind"]) => cases.filter((v) => v.kind === kind);
const from = IpPort.parse("203.0.113.7:41641");
const txId = hex("0102030405060708090a0b0c");

test.each(ofKind("binding-request"))("the request with id $txid is the published one", (v) => {
  expect(toHex(encodeBindingRequest(hex(v.txid)))).toBe(v.packet);
  expect(decodeBindingRequest(hex(v.packet))).toEqual({
    txId: hex(v.txid),
    software: "tailnode",
    fingerprinted: true,
  });
});

test.each(ofKind("binding-response"))("the response with $addr to $txid is the published one", (v) => {
  expect(toHex(encodeBindingResponse(hex(v.txid), IpPort.parse(v.addr)))).toBe(v.packet);
  expect(decodeBindingResponse(hex(v.packet))).toEqual({ txId: hex(v.txid), address: IpPort.parse(v.addr) });
});

/** What we say of a packet where the reference implementation has this error. */
const OUR_WORD: Readonly<Record<string, string>> = {
  "STUN packet is not a response": "other-type",
  "response is not a STUN packet": "not-stun",
  "STUN response has malformed attributes": "no-address",
  "STUN request had bogus fingerprint": "bad-fingerprint",
};

test.each(ofKind("response-decode"))("reads or refuses a response: $name", (v) => {
  const response = decodeBindingResponse(hex(v.packet));
  if (v.error !== undefined) expect(response).toBe(OUR_WORD[v.error]);
  else expect(response).toEqual({ txId: hex(v.txid), address: IpPort.parse(v.addr) });
  expect(looksLikeStun(hex(v.packet))).toBe(v.is_stun);
});

test.each(ofKind("request-decode"))("reads or refuses a request: $name", (v) => {
  const packet = hex(v.packet);
  const request = decodeBindingRequest(packet);
  const stockServerAnswers =
    typeof request === "object" && request.software === "tailnode" && request.fingerprinted;
  expect(stockServerAnswers).toBe(v.error === undefined);
  // Unlike a stock server ours answers other software's requests too, but no damaged one.
  const answered = v.error === undefined || v.error.includes("non-Tailscale software");
  expect(answerBindingRequest(packet, from) !== undefined).toBe(answered);
  if (!answered) expect(request).toBe(OUR_WORD[v.error ?? ""]);
  expect(looksLikeStun(packet)).toBe(v.is_stun);
});

test("the check value of CRC-32 is the published one", () => {
  expect(crc32(utf8("123456789"))).toBe(0xcbf4_3926);
});

test("a server's answer says where the request came from", () => {
  const answer = answerBindingRequest(encodeBindingRequest(txId), from) ?? new Uint8Array();
  expect(decodeBindingResponse(answer)).toEqual({ txId, address: from });
  expect(answerBindingRequest(answer, from)).toBeUndefined();
});

test("an IPv4 client of a socket for both families is answered with its IPv4 address", () => {
  const mapped = new IpPort(Ip.parse("::ffff:203.0.113.7"), 41641);
  expect(encodeBindingResponse(txId, mapped)).toEqual(encodeBindingResponse(txId, from));
});

test.each([
  {
    name: "an attribute longer than the message",
    packet: "010100042112a4420102030405060708090a0b0c00200008",
  },
  { name: "a message longer than the packet", packet: "010100142112a4420102030405060708090a0b0c00200008" },
  { name: "half an attribute's header", packet: "010100022112a4420102030405060708090a0b0c0020" },
])("$name is refused", ({ packet }) => {
  expect(decodeBindingResponse(hex(packet))).toBe("bad-attributes");
});

test.each([
  { name: "an address cut short", packet: "010100082112a4420102030405060708090a0b0c002000040001a147" },
  { name: "an address of no bytes", packet: "010100042112a4420102030405060708090a0b0c00200000" },
  {
    name: "an IPv6 address of 4 bytes",
    packet: "0101000c2112a4420102030405060708090a0b0c0020000800020000e112a643",
  },
])("a response with $name has no address", ({ packet }) => {
  expect(decodeBindingResponse(hex(packet))).toBe("no-address");
});

test("every address survives the wire", () => {
  const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
  fc.assert(
    fc.property(bytes(12), fc.oneof(bytes(4), bytes(16)), fc.nat({ max: 0xffff }), (id, ip, port) => {
      const address = new IpPort(Ip.fromBytes(ip), port);
      expect(decodeBindingResponse(encodeBindingResponse(id, address))).toEqual({ txId: id, address });
    }),
  );
});

test("a request with any one bit turned is not answered as ours", () => {
  const request = encodeBindingRequest(txId);
  for (let bit = 0; bit < 8 * request.length; bit++) {
    const damaged = request.map((byte, i) => (i === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte));
    const read = decodeBindingRequest(damaged);
    expect(typeof read === "string" || !read.fingerprinted).toBe(true);
  }
});

test("any attributes do not throw, nor do any bytes", () => {
  const anyAttribute = fc
    .tuple(fc.constantFrom("0001", "0020", "8020", "8022", "8028", "0006"), fc.uint8Array({ maxLength: 24 }))
    .map(([type, value]) => {
      const padding = new Uint8Array(-value.length & 3);
      return [...hex(type), 0, value.length, ...value, ...padding];
    });
  const anyContent = fc.oneof(
    fc.array(anyAttribute, { maxLength: 4 }).map((list) => list.flat()),
    fc.array(fc.nat(255)),
  );
  fc.assert(
    fc.property(fc.constantFrom("0001", "0101"), anyContent, (type, content) => {
      const length = content.length.toString(16).padStart(4, "0");
      const packet = Uint8Array.of(...hex(`${type}${length}2112a442`), ...txId, ...content);
      for (const bytes of [Uint8Array.from(content), packet]) {
        decodeBindingRequest(bytes);
        decodeBindingResponse(bytes);
      }
    }),
  );
});
