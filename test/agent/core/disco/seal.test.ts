import fc from "fast-check";
import { concat, toHex } from "../../../../agent/src/base/bytes.ts";
import { DiscoPublic } from "../../../../agent/src/base/keys.ts";
import { discoSender, DISCO_OVERHEAD, openDisco, sealDisco } from "../../../../agent/src/core/disco/seal.ts";
import { BoxKey } from "../../../../agent/src/crypto/box.ts";
import { portableSuite } from "../../../../agent/src/crypto/portable.ts";
import { hex, vectors } from "../../../vectors/load.ts";

interface SealVector {
  readonly name: string;
  readonly from: string;
  readonly to: string;
  readonly nonce: string;
  readonly packet: string;
  readonly packet_len: number;
  readonly plaintext: string;
}
const { keys, messages } = vectors<{
  readonly keys: Readonly<Record<string, { readonly private: string; readonly public: string }>>;
  readonly messages: readonly SealVector[];
}>("disco.json");

const alice = DiscoPublic.parse(keyOf("alice").public);
const nonce = new Uint8Array(24).fill(7);

test.each(Object.keys(keys))("%s's public key belongs to the private one", (name) => {
  const { private: secret, public: text } = keyOf(name);
  expect(text.split(":")[1]).toBe(toHex(portableSuite.x25519Public(hex(secret))));
});

test.each(messages)("seals and opens the published $name", (v) => {
  const packet = hex(v.packet);
  const sender = DiscoPublic.parse(keyOf(v.from).public);
  expect(toHex(sealDisco(boxBetween(v.from, v.to), sender, hex(v.nonce), hex(v.plaintext)))).toBe(v.packet);
  expect(discoSender(packet)?.text).toBe(sender.text);
  expect(openDisco(boxBetween(v.to, v.from), packet)).toEqual(hex(v.plaintext));
  expect(packet).toHaveLength(v.packet_len);
});

test.each(messages)("$name does not open with another key", (v) => {
  expect(openDisco(boxBetween("relay", v.from), hex(v.packet))).toBe("not-sealed-for-us");
});

test("what is too short or has another magic is not disco", () => {
  const box = boxBetween("alice", "bob");
  const packet = sealDisco(box, alice, nonce, Uint8Array.of(3, 0));
  const otherMagic = concat(Uint8Array.of(0x55), packet.subarray(1));
  expect(openDisco(box, packet.subarray(0, DISCO_OVERHEAD - 1))).toBe("short");
  expect(discoSender(packet.subarray(0, DISCO_OVERHEAD - 1))).toBeUndefined();
  expect(openDisco(box, otherMagic)).toBe("not-disco");
  expect(discoSender(otherMagic)).toBeUndefined();
});

test("any message opens again", () => {
  const [seal, open] = [boxBetween("alice", "bob"), boxBetween("bob", "alice")];
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 24, maxLength: 24 }), fc.uint8Array(), (anyNonce, payload) => {
      expect(openDisco(open, sealDisco(seal, alice, anyNonce, payload))).toEqual(payload);
    }),
  );
});

test("a damaged box does not open, and any bytes do not throw", () => {
  const box = boxBetween("alice", "bob");
  const packet = sealDisco(box, alice, nonce, hex("0300"));
  // The sender's key is not part of the box: a wrong one leads to another shared key, or to none.
  for (let at = 38; at < packet.length; at++) {
    const damaged = packet.map((byte, i) => (i === at ? byte ^ 1 : byte));
    expect(openDisco(box, damaged)).toBe("not-sealed-for-us");
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (rest) => {
      const bytes = concat(packet.subarray(0, 6), rest);
      expect(openDisco(box, bytes)).toBe(bytes.length < DISCO_OVERHEAD ? "short" : "not-sealed-for-us");
    }),
  );
});

function keyOf(name: string): { readonly private: string; readonly public: string } {
  return keys[name] ?? { private: "", public: "" };
}

function boxBetween(own: string, peer: string): BoxKey {
  const peerPublic = hex(keyOf(peer).public.split(":")[1] ?? "");
  const box = BoxKey.agree(portableSuite, hex(keyOf(own).private), peerPublic);
  if (box === undefined) throw new Error("the vectors' keys agree on nothing");
  return box;
}
