/** The beginning and the end of Poly1305 on OpenSSL's state: against OpenSSL, the RFC, plain numbers and WebAssembly's own. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import fc from "fast-check";
import {
  createMemory,
  openPackets,
  openPrimitives,
  planMemory,
} from "../../../agent/src/dataplane/memory.ts";
import { knowsPoly1305State } from "../../../agent/src/dataplane/poly1305-state.ts";
import { loadFastCalls } from "../../../agent/src/io/ffi/fast-calls.ts";
import { isAbsent } from "../../../agent/src/io/ffi/koffi.ts";
import { loadRawChaCha, type RawChaCha } from "../../../agent/src/io/ffi/openssl.ts";
import { canOpenPlanes } from "./can-open-planes.ts";
import { MACS } from "./poly1305-vectors.ts";

const layout = planMemory({ mtu: 9000, maxSessions: 1, maxPeers: 1 });
const memory = createMemory(layout);
const bytes = new Uint8Array(memory.buffer);
const words = new DataView(memory.buffer);
const [TAG, KEY, TEXT] = [layout.tag, layout.target, layout.received];
const STATE = layout.cipherState;

/** What OpenSSL's own way of keeping a sum needs. */
function openOpenssl(change: Partial<RawChaCha> = {}) {
  const [calls, found] = [loadFastCalls(), loadRawChaCha()];
  if (isAbsent(calls)) throw new Error(calls.absent);
  if (isAbsent(found)) throw new Error(found.absent);
  const [base, packets, raw] = [
    calls.addressOf(bytes),
    openPackets(memory, layout, calls.addressOf(bytes)),
    found,
  ];
  const isKnown = knowsPoly1305State({ ...raw, ...change }, { memory, layout, packets, base });
  const poly1305 = (key: number, at: number, length: number, tag: number): void => {
    packets.openMac(key);
    raw.poly1305Update(base + layout.cipherState, base + at, length);
    packets.closeMac(tag);
  };
  return { raw, base, isKnown, poly1305 };
}

/** The other ways work in the same area, so it has to be emptied before. */
function emptyState(): void {
  bytes.fill(0, layout.cipherState, layout.tag);
}

function isStateEmpty(): boolean {
  return bytes.slice(layout.cipherState, layout.tag).every((byte) => byte === 0);
}

const hex = (data: Uint8Array): string => Buffer.from(data).toString("hex");
const fromHex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ""), "hex"));

describe("Poly1305 on OpenSSL's state, begun and ended without it,", () => {
  canOpenPlanes.each(MACS)("gives the tag of RFC 8439, appendix A.3: $tag", ({ key, text, tag }) => {
    const { isKnown, poly1305 } = openOpenssl();
    expect(isKnown).toBe(true);
    const data = fromHex(text);
    bytes.set(fromHex(key), KEY);
    bytes.set(data, TEXT);
    poly1305(KEY, TEXT, data.length, TAG);
    expect(hex(bytes.slice(TAG, TAG + 16))).toBe(tag);
  });

  canOpenPlanes("gives the tags of WebAssembly's own, and leaves nothing in the state", () => {
    const { poly1305 } = openOpenssl();
    const own = openPrimitives(memory, layout);
    emptyState();
    fc.assert(
      fc.property(keys, block, block, fc.integer({ min: 1, max: 563 }), (key, even, odd, blocks) => {
        bytes.set(key, KEY);
        for (let i = 0; i < blocks; i++) bytes.set(i % 2 === 0 ? even : odd, TEXT + i * 16);
        poly1305(KEY, TEXT, blocks * 16, TAG);
        expect(isStateEmpty()).toBe(true);
        own.poly1305(KEY, TEXT, blocks * 16, TAG + 16);
        emptyState();
        expect(hex(bytes.slice(TAG, TAG + 16))).toBe(hex(bytes.slice(TAG + 16, TAG + 32)));
      }),
      { numRuns: 500 },
    );
  });

  canOpenPlanes("is not trusted where the state is another", () => {
    const { raw, base } = openOpenssl();
    const at = layout.cipherState;
    const begun = (change: () => void): Partial<RawChaCha> => ({
      poly1305Init(state, key) {
        raw.poly1305Init(state, key);
        change();
      },
    });
    let begins = 0;
    const others: readonly Partial<RawChaCha>[] = [
      { stateLength: 232 },
      begun(() => bytes.copyWithin(at + 48, at + 16, at + 48)),
      begun(() => bytes.fill(0, at + 24, at + 40)),
      begun(() => bytes.fill(1, at, at + 1)),
      begun(() => bytes.fill(0, at + 232, at + 248)),
      begun(() => (bytes[at + 239] = begins++)),
      {
        poly1305Final(state, tag) {
          raw.poly1305Final(state, tag);
          bytes[tag - base + 15] = (bytes[tag - base + 15] ?? 0) ^ 1;
        },
      },
    ];
    for (const other of others) expect(openOpenssl(other).isKnown).toBe(false);
  });
});

const block = fc.oneof(
  fc.uint8Array({ minLength: 16, maxLength: 16 }),
  fc.constant(new Uint8Array(16).fill(0xff)),
  fc.constant(new Uint8Array(16)),
);
const keys = fc.tuple(block, block).map(([r, pad]) => Uint8Array.of(...r, ...pad));

/** How a sum lies in the state: limbs of so many bits, in words of so many bytes; a flag. */
const SUMS = [
  { name: "x86-64, words", kind: 0, bits: 64, size: 8, count: 3, flagAt: undefined },
  { name: "x86-64, limbs", kind: 0, bits: 26, size: 4, count: 5, flagAt: 20 },
  { name: "arm64, words", kind: 1, bits: 64, size: 8, count: 3, flagAt: undefined },
  { name: "arm64, limbs", kind: 1, bits: 26, size: 4, count: 5, flagAt: 24 },
  { name: "x86-64 with AVX-512 IFMA", kind: 2, bits: 44, size: 8, count: 3, flagAt: undefined },
];
const P = (1n << 130n) - 5n;
const sums = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 130n) - 1n }),
  fc.bigInt({ min: P - 9n, max: P + 4n }),
  fc.bigInt({ min: 0n, max: 9n }),
  fc.bigInt({ min: 1n << 128n, max: 1n << 128n }),
);

test.each(SUMS)("the end adds key and sum modulo 2^130 - 5: $name", ({ kind, bits, size, count, flagAt }) => {
  const packets = openPackets(memory, layout, 0);
  packets.useMac(STATE, kind, 1, 0);
  fc.assert(
    fc.property(keys, sums, fc.boolean(), (key, sum, isCarryLate) => {
      bytes.set(key, KEY);
      packets.openMac(KEY);
      const limbs = Array.from({ length: count }, (_, i) =>
        i === count - 1 ? sum >> BigInt(bits * i) : BigInt.asUintN(bits, sum >> BigInt(bits * i)),
      );
      // A limb may be one bit longer than the others say: its carry has not been taken along.
      const [first = 0n, second = 0n] = limbs;
      if (isCarryLate && bits < 64 && second > 0n)
        limbs.splice(0, 2, first + (1n << BigInt(bits)), second - 1n);
      limbs.forEach((limb, i) => {
        if (size === 8) words.setBigUint64(STATE + i * 8, limb, true);
        else words.setUint32(STATE + i * 4, Number(limb), true);
      });
      if (flagAt !== undefined) words.setUint32(STATE + flagAt, 1, true);
      packets.closeMac(TAG);
      const pad = new DataView(key.buffer);
      const expected = (sum % P) + pad.getBigUint64(16, true) + (pad.getBigUint64(24, true) << 64n);
      const found = words.getBigUint64(TAG, true) | (words.getBigUint64(TAG + 8, true) << 64n);
      expect(found.toString(16)).toBe(BigInt.asUintN(128, expected).toString(16));
    }),
    { numRuns: 1000 },
  );
});

/** Bits of OpenSSL's OPENSSL_ia32cap: AVX2, AVX512F, AVX512IFMA and AVX512VL. */
const IFMA = ":0x80210020";

canOpenPlanes("the beginning is OpenSSL's own, also for a processor with AVX-512 IFMA", () => {
  const kindWith = (capabilities: string): string =>
    spawnSync(process.execPath, ["--import", "tsx", join(__dirname, "poly1305-kind.ts")], {
      cwd: join(__dirname, "../../.."),
      encoding: "utf8",
      env: { ...process.env, OPENSSL_ia32cap: capabilities },
    }).stdout;
  const isX64 = process.arch === "x64";
  expect(kindWith(IFMA)).toBe(isX64 ? "2" : "1");
  expect(kindWith(":0x20")).toBe(isX64 ? "0" : "1");
});
