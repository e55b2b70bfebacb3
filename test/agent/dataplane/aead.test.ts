/** Every way to seal against node:crypto, and the WebAssembly one against the RFC. */
import { createCipheriv } from "node:crypto";
import fc from "fast-check";
import { type Aead, chooseAead } from "../../../agent/src/dataplane/aead.ts";
import {
  createMemory,
  openPackets,
  openPrimitives,
  planMemory,
} from "../../../agent/src/dataplane/memory.ts";
import { loadFastCalls } from "../../../agent/src/io/ffi/fast-calls.ts";
import { isAbsent } from "../../../agent/src/io/ffi/koffi.ts";
import { canOpenPlanes } from "./can-open-planes.ts";
import { MACS } from "./poly1305-vectors.ts";

const layout = planMemory({ mtu: 9000, maxSessions: 1, maxPeers: 1 });
const memory = createMemory(layout);
const bytes = new Uint8Array(memory.buffer);
const [SLOT, INPUT, KEY, MESSAGE, OPENED] = [
  layout.sealed,
  layout.read + 256,
  layout.target,
  layout.received + 256,
  layout.opened,
];

function open(name: string): Aead {
  const calls = loadFastCalls();
  const base = isAbsent(calls) ? 0 : calls.addressOf(bytes);
  const { aead } = chooseAead({ memory, layout, packets: openPackets(memory, layout, base), base }, name);
  expect(aead.name).toBe(name);
  return aead;
}

/** The other ways work in the same area, so it has to be emptied before. */
function emptyState(): void {
  bytes.fill(0, layout.cipherState, layout.tag);
}

function isStateEmpty(): boolean {
  return bytes.slice(layout.cipherState, layout.tag).every((byte) => byte === 0);
}

const hex = (data: Uint8Array): string => Buffer.from(data).toString("hex");

function nonceOf(counter: number): Uint8Array {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setUint32(4, counter, true);
  return nonce;
}

const messages = fc.record({
  key: fc.uint8Array({ minLength: 32, maxLength: 32 }),
  counter: fc.nat({ max: 0xffff_fffe }),
  plain: fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.uint8Array({ minLength: 1200, maxLength: 9000 })),
  damage: fc.nat(),
});

canOpenPlanes.each(["openssl-raw", "openssl-raw-calls", "openssl-evp", "wasm", "node-crypto"])(
  "%s seals what node:crypto opens, opens what it seals, and refuses what was damaged",
  (name) => {
    const aead = open(name);
    fc.assert(
      fc.property(messages, ({ key, counter, plain, damage }) => {
        const { length } = plain;
        bytes.set(key, KEY);
        bytes.fill(0, INPUT - 64, INPUT);
        bytes.set(plain, INPUT);
        aead.seal(SLOT, INPUT, length, KEY, 0x01020304, counter | 0, layout.sealedIovecs);
        const sealed = bytes.slice(SLOT + 64, SLOT + 64 + length + 16);
        const cipher = createCipheriv("chacha20-poly1305", key, nonceOf(counter), { authTagLength: 16 });
        expect(hex(sealed)).toBe(
          hex(Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()])),
        );
        const after = bytes.slice(SLOT + 48, SLOT + 64 + length + 16);
        bytes.set(after, MESSAGE);
        expect(aead.open(OPENED, MESSAGE, length, KEY, counter | 0)).toBe(true);
        expect(hex(bytes.slice(OPENED + 64, OPENED + 64 + length))).toBe(hex(plain));
        bytes.set(after, MESSAGE);
        const spot = MESSAGE + 16 + (damage % (length + 16));
        bytes[spot] = (bytes[spot] ?? 0) ^ (1 << (damage & 7));
        expect(aead.open(OPENED, MESSAGE, length, KEY, counter | 0)).toBe(false);
      }),
      { numRuns: name === "wasm" ? 400 : 60 },
    );
  },
);

const ascii = (text: string): Uint8Array => Uint8Array.from(text, (character) => character.charCodeAt(0));
const fromHex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ""), "hex"));

test("ChaCha20 gives the key stream of RFC 8439, section 2.4.2", () => {
  const { chacha20 } = openPrimitives(memory, layout);
  bytes.set(fromHex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"), KEY);
  bytes.set(fromHex("00000000 000000000000004a00000000"), layout.nonce);
  const text = ascii(
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
  );
  // The RFC begins with block 1; here block 0 goes before.
  bytes.fill(0, INPUT, INPUT + 64);
  bytes.set(text, INPUT + 64);
  chacha20(SLOT, INPUT, 64 + text.length, KEY, layout.nonce);
  bytes.fill(0, layout.nonce, layout.nonce + 16);
  expect(hex(bytes.slice(SLOT + 64, SLOT + 64 + text.length))).toBe(
    hex(
      fromHex(`6e2e359a2568f98041ba0728dd0d6981 e97e7aec1d4360c20a27afccfd9fae0b
        f91b65c5524733ab8f593dabcd62b357 1639d624e65152ab8f530c359f0861d8
        07ca0dbf500d6a6156a38e088a22b65e 52bc514d16ccf806818ce91ab7793736
        5af90bbf74a35be6b40b8eedf2785e42 874d`),
    ),
  );
});

test.each(MACS)("Poly1305 of RFC 8439, appendix A.3: $tag", ({ key, text, tag }) => {
  const { poly1305 } = openPrimitives(memory, layout);
  const data = fromHex(text);
  bytes.set(fromHex(key), KEY);
  bytes.set(data, INPUT);
  poly1305(KEY, INPUT, data.length, SLOT);
  expect(hex(bytes.slice(SLOT, SLOT + 16))).toBe(tag);
});

canOpenPlanes("a sealed or opened packet leaves neither sum nor key in OpenSSL's state", () => {
  const aead = open("openssl-raw");
  bytes.fill(0x5a, KEY, KEY + 32);
  bytes.fill(0, INPUT - 64, INPUT + 1280);
  emptyState();
  for (const length of [0, 16, 1280]) {
    aead.seal(SLOT, INPUT, length, KEY, 1, 2, layout.sealedIovecs);
    expect(isStateEmpty()).toBe(true);
    bytes.copyWithin(MESSAGE, SLOT + 48, SLOT + 64 + length + 16);
    expect(aead.open(OPENED, MESSAGE, length, KEY, 2)).toBe(true);
    expect(isStateEmpty()).toBe(true);
  }
});
