import fc from "fast-check";
import { fromHex } from "../../../agent/src/base/bytes.ts";
import { clampPrivateKey } from "../../../agent/src/base/keys.ts";
import { portableSuite } from "../../../agent/src/crypto/portable.ts";
import { nodeSuite } from "../../../agent/src/io/node-suite.ts";
import { systemRandom } from "../../../agent/src/io/random.ts";

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });

test("both suites agree on every X25519 key and point", () => {
  fc.assert(
    fc.property(bytes(32), bytes(32), (secret, peer) => {
      expect(nodeSuite.x25519Public(secret)).toEqual(portableSuite.x25519Public(secret));
      expect(nodeSuite.x25519(secret, peer)).toEqual(portableSuite.x25519(secret, peer));
    }),
    { numRuns: 30 },
  );
});

test("both suites agree on every sealed message, and open each other's", () => {
  const data = fc.uint8Array({ maxLength: 300 });
  fc.assert(
    fc.property(
      bytes(32),
      bytes(12),
      data,
      fc.option(data, { nil: undefined }),
      (key, nonce, plaintext, associated) => {
        const sealed = nodeSuite.aeadSeal(key, nonce, plaintext, associated);
        expect(sealed).toEqual(portableSuite.aeadSeal(key, nonce, plaintext, associated));
        expect(nodeSuite.aeadOpen(key, nonce, sealed, associated)).toEqual(plaintext);
        expect(portableSuite.aeadOpen(key, nonce, sealed, associated)).toEqual(plaintext);
      },
    ),
  );
});

test("a damaged message, one of random bytes and one too short for a tag are refused by both", () => {
  const [key, nonce] = [new Uint8Array(32), new Uint8Array(12)];
  const sealed = fc.uint8Array({ minLength: 1, maxLength: 80 }).chain((plaintext) => {
    const good = nodeSuite.aeadSeal(key, nonce, plaintext);
    return fc
      .nat(good.length * 8 - 1)
      .map((bit) => good.with(bit >> 3, (good[bit >> 3] ?? 0) ^ (1 << (bit & 7))));
  });
  fc.assert(
    fc.property(fc.oneof(sealed, fc.uint8Array({ maxLength: 60 })), (wrong) => {
      expect(nodeSuite.aeadOpen(key, nonce, wrong)).toBeUndefined();
      expect(portableSuite.aeadOpen(key, nonce, wrong)).toBeUndefined();
    }),
  );
});

// The points of small order of RFC 7748's curve, in canonical and other encodings.
test.each([
  "00".repeat(32),
  `01${"00".repeat(31)}`,
  "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
  "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
  `ec${"ff".repeat(30)}7f`,
  `ed${"ff".repeat(30)}7f`,
  `ee${"ff".repeat(30)}7f`,
])("the point %s gives no shared secret", (point) => {
  const secret = clampPrivateKey(new Uint8Array(32).fill(0x55));
  expect(nodeSuite.x25519(secret, fromHex(point))).toBeUndefined();
  expect(portableSuite.x25519(secret, fromHex(point))).toBeUndefined();
});

test("the exchange of RFC 7748 section 6.1", () => {
  const alice = fromHex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
  const bob = fromHex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
  const shared = fromHex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
  expect(nodeSuite.x25519(alice, nodeSuite.x25519Public(bob))).toEqual(shared);
  expect(nodeSuite.x25519(bob, nodeSuite.x25519Public(alice))).toEqual(shared);
});

test("a secret whose array is used again for another one is not mistaken for the first", () => {
  const secret = new Uint8Array(32).fill(1);
  const first = nodeSuite.x25519Public(secret);
  secret.fill(2);
  expect(nodeSuite.x25519Public(secret)).toEqual(portableSuite.x25519Public(new Uint8Array(32).fill(2)));
  expect(nodeSuite.x25519Public(secret)).not.toEqual(first);
});

test("keys of a wrong length give no shared secret", () => {
  expect(nodeSuite.x25519(new Uint8Array(31), new Uint8Array(32).fill(9))).toBeUndefined();
  expect(nodeSuite.x25519(new Uint8Array(32).fill(9), new Uint8Array(33))).toBeUndefined();
});

test("the system's randomness fills the whole array, and differently each time", () => {
  const [a, b] = [new Uint8Array(64), new Uint8Array(64)];
  systemRandom.fill(a);
  systemRandom.fill(b);
  expect(a).not.toEqual(b);
});
