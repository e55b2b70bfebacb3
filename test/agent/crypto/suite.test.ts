import fc from "fast-check";
import { toHex, utf8 } from "../../../agent/src/base/bytes.ts";
import { portableSuite } from "../../../agent/src/crypto/portable.ts";
import { TAG_LENGTH, ZERO_NONCE } from "../../../agent/src/crypto/suite.ts";
import { hex } from "../../vectors/load.ts";

const { x25519, x25519Public, aeadSeal, aeadOpen } = portableSuite;
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });

test.each([
  {
    name: "RFC 7748 section 5.2, first",
    secret: "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
    peer: "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
    shared: "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
  },
  {
    name: "RFC 7748 section 5.2, second",
    secret: "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
    peer: "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
    shared: "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
  },
  {
    name: "RFC 7748 section 5.2, iterated once",
    secret: `09${"00".repeat(31)}`,
    peer: `09${"00".repeat(31)}`,
    shared: "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079",
  },
  {
    name: "RFC 7748 section 6.1",
    secret: "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
    peer: "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
    shared: "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
  },
])("X25519: $name", ({ secret, peer, shared }) => {
  expect(toHex(x25519(hex(secret), hex(peer)) ?? new Uint8Array())).toBe(shared);
});

test("X25519: the public key of RFC 7748 section 6.1", () => {
  const secret = hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
  expect(toHex(x25519Public(secret))).toBe(
    "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
  );
});

test.each([
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
  "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
])("X25519: the point of small order %s agrees on nothing", (point) => {
  expect(x25519(new Uint8Array(32).fill(0x77), hex(point))).toBeUndefined();
});

test("X25519: two pairs agree on one secret", () => {
  fc.assert(
    fc.property(bytes(32), bytes(32), (a, b) => {
      expect(x25519(a, x25519Public(b))).toEqual(x25519(b, x25519Public(a)));
    }),
    { numRuns: 20 },
  );
});

test("ChaCha20-Poly1305: RFC 8439 section 2.8.2", () => {
  const key = Uint8Array.from({ length: 32 }, (_, i) => 0x80 + i);
  const plaintext = utf8(
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
  );
  const [nonce, associated] = [hex("070000004041424344454647"), hex("50515253c0c1c2c3c4c5c6c7")];
  const sealed = aeadSeal(key, nonce, plaintext, associated);
  expect(toHex(sealed)).toBe(
    "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b" +
      "1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc" +
      "3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691",
  );
  expect(aeadOpen(key, nonce, sealed, associated)).toEqual(plaintext);
});

test("ChaCha20-Poly1305: what was sealed opens; with a bit turned in it or in the associated data it does not", () => {
  fc.assert(
    fc.property(
      bytes(32),
      bytes(12),
      fc.uint8Array(),
      fc.uint8Array(),
      fc.nat(),
      (key, nonce, text, ad, at) => {
        const sealed = aeadSeal(key, nonce, text, ad);
        expect(sealed).toHaveLength(text.length + TAG_LENGTH);
        expect(aeadOpen(key, nonce, sealed, ad)).toEqual(text);
        expect(aeadOpen(key, nonce, turned(sealed, at), ad)).toBeUndefined();
        if (ad.length > 0) expect(aeadOpen(key, nonce, sealed, turned(ad, at))).toBeUndefined();
      },
    ),
  );
});

test("ChaCha20-Poly1305: any bytes, however short, do not open and do not throw", () => {
  const key = new Uint8Array(32).fill(1);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (any) => {
      expect(aeadOpen(key, ZERO_NONCE, any)).toBeUndefined();
    }),
  );
});

function turned(input: Uint8Array, at: number): Uint8Array {
  return input.map((byte, i) => (i === at % input.length ? byte ^ (1 << (at & 7)) : byte));
}
