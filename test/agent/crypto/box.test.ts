import fc from "fast-check";
import { xsalsa20poly1305 } from "@noble/ciphers/salsa.js";
import { inspect } from "node:util";
import { DiscoPublic } from "../../../agent/src/base/keys.ts";
import { BOX_NONCE_LENGTH, BOX_OVERHEAD, BoxKey } from "../../../agent/src/crypto/box.ts";
import { portableSuite } from "../../../agent/src/crypto/portable.ts";
import { hex, vectors } from "../../vectors/load.ts";

interface Pair {
  readonly private: string;
  readonly public: string;
}
const { keys, precomputed_shared_alice_bob } = vectors<{
  readonly keys: { readonly alice: Pair; readonly bob: Pair; readonly relay: Pair };
  readonly precomputed_shared_alice_bob: string;
}>("disco.json");

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const [alice, bob, relay] = [
  agree(keys.alice, keys.bob),
  agree(keys.bob, keys.alice),
  agree(keys.relay, keys.alice),
];

test("the key that alice and bob agree on is the published one", () => {
  const shared = hex(precomputed_shared_alice_bob);
  fc.assert(
    fc.property(bytes(BOX_NONCE_LENGTH), fc.uint8Array(), (nonce, plaintext) => {
      const want = xsalsa20poly1305(shared, nonce).encrypt(plaintext);
      expect(alice.seal(nonce, plaintext)).toEqual(want);
      expect(bob.seal(nonce, plaintext)).toEqual(want);
    }),
  );
});

test("a box opens for its receiver alone, and not when a bit of it or of the nonce was turned", () => {
  fc.assert(
    fc.property(bytes(BOX_NONCE_LENGTH), fc.uint8Array(), fc.nat(), (nonce, plaintext, at) => {
      const sealed = alice.seal(nonce, plaintext);
      expect(sealed).toHaveLength(plaintext.length + BOX_OVERHEAD);
      expect(bob.open(nonce, sealed)).toEqual(plaintext);
      expect(relay.open(nonce, sealed)).toBeUndefined();
      expect(bob.open(nonce, turned(sealed, at))).toBeUndefined();
      expect(bob.open(turned(nonce, at), sealed)).toBeUndefined();
    }),
  );
});

test("any bytes and nonces of any length do not open and do not throw", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 30 }), fc.uint8Array({ maxLength: 64 }), (nonce, any) => {
      expect(bob.open(nonce, any)).toBeUndefined();
    }),
  );
});

test("a public key of small order agrees on nothing", () => {
  expect(BoxKey.agree(portableSuite, hex(keys.alice.private), new Uint8Array(32))).toBeUndefined();
});

test("no way of printing a shared key shows it", () => {
  for (const shown of [
    JSON.stringify({ alice }),
    inspect(alice, { showHidden: true, depth: 9 }),
    String(alice),
  ]) {
    expect(shown).not.toContain(precomputed_shared_alice_bob.slice(0, 8));
    expect(shown).not.toMatch(/\d{2,3}, ?\d/);
  }
});

function agree(own: Pair, peer: Pair): BoxKey {
  const box = BoxKey.agree(portableSuite, hex(own.private), DiscoPublic.parse(peer.public).bytes);
  if (box === undefined) throw new Error("the vectors' keys agree on nothing");
  return box;
}

function turned(input: Uint8Array, at: number): Uint8Array {
  return input.map((byte, i) => (i === at % input.length ? byte ^ (1 << (at & 7)) : byte));
}
