import { createHash, createHmac, hkdfSync } from "node:crypto";
import fc from "fast-check";
import { blake2s as nobleBlake2s } from "@noble/hashes/blake2.js";
import { concat, toHex, utf8 } from "../../../agent/src/base/bytes.ts";
import { nodeSuite } from "../../../agent/src/io/node-suite.ts";
import { blake2s, blake2sMac, hmacBlake2s, kdf1, kdf2, kdf3 } from "../../../agent/src/crypto/hash.ts";

test("BLAKE2s of 'abc' is that of RFC 7693 appendix B, in one part or in three", () => {
  const want = "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982";
  expect(toHex(blake2s(utf8("abc")))).toBe(want);
  expect(toHex(blake2s(utf8("a"), utf8("b"), utf8("c")))).toBe(want);
});

/** The self-test hashes the outputs for all lengths; ours make those of 32 and 16 bytes, the rest comes from noble. */
test("BLAKE2s, keyed and not, passes the self-test of RFC 7693 appendix E", () => {
  const outputs: Uint8Array[] = [];
  for (const dkLen of [16, 20, 28, 32]) {
    for (const length of [0, 3, 64, 65, 255, 1024]) {
      const [input, key] = [selfTestSequence(length, length), selfTestSequence(dkLen, dkLen)];
      outputs.push(dkLen === 32 ? blake2s(input) : nobleBlake2s(input, { dkLen }));
      outputs.push(dkLen === 16 ? blake2sMac(key, input) : nobleBlake2s(input, { dkLen, key }));
    }
  }
  const want = "6a411f08ce25adcdfb02aba641451cec53c598b24f4fc787fbdc88797f4c1dfe";
  expect(toHex(blake2s(...outputs))).toBe(want);
});

test("the hashes and key derivations are those of OpenSSL", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.uint8Array({ maxLength: 200 }), (key, input) => {
      expect(toHex(blake2s(key, input))).toBe(
        createHash("blake2s256").update(key).update(input).digest("hex"),
      );
      expect(toHex(hmacBlake2s(key, input))).toBe(createHmac("blake2s256", key).update(input).digest("hex"));
      expect(toHex(nodeSuite.hmacBlake2s(key, input))).toBe(toHex(hmacBlake2s(key, input)));
      const want = new Uint8Array(hkdfSync("blake2s256", input, key, "", 96));
      expect(kdf1(hmacBlake2s, key, input)).toEqual(want.slice(0, 32));
      expect(concat(...kdf2(hmacBlake2s, key, input))).toEqual(want.slice(0, 64));
      expect(concat(...kdf3(hmacBlake2s, key, input))).toEqual(want);
    }),
  );
});

/** `selftest_seq` of RFC 7693 appendix E: a Fibonacci generator. */
function selfTestSequence(length: number, seed: number): Uint8Array {
  let [a, b] = [Math.imul(0xdead_4bad, seed) >>> 0, 1];
  return Uint8Array.from({ length }, () => {
    [a, b] = [b, (a + b) >>> 0];
    return b >>> 24;
  });
}
