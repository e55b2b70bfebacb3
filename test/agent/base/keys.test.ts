import { inspect } from "node:util";
import fc from "fast-check";
import { concat, toHex, utf8 } from "../../../agent/src/base/bytes.ts";
import {
  clampPrivateKey,
  DiscoPrivate,
  DiscoPublic,
  formatPrivateKey,
  MachinePrivate,
  MachinePublic,
  NodePrivate,
  NodePublic,
  parsePrivateKey,
} from "../../../agent/src/base/keys.ts";
import { portableSuite } from "../../../agent/src/crypto/portable.ts";
import { hex, vectors } from "../../vectors/load.ts";

interface KeyVector {
  readonly private_raw: string;
  readonly public_raw: string;
  readonly untyped_hex: string;
  readonly public_base64: string;
  readonly node_private_text: string;
  readonly machine_private_text: string;
  readonly node_public_text: string;
  readonly node_public_short: string;
  readonly node_public_binary: string;
  readonly machine_public_text: string;
  readonly machine_public_short: string;
  readonly disco_public_text: string;
  readonly disco_public_short: string;
}
interface KeyVectors {
  readonly keys: readonly KeyVector[];
  readonly node_public_parse: readonly {
    readonly text: string;
    readonly ok: boolean;
    readonly is_zero: boolean;
  }[];
  readonly prefixes: Readonly<Record<string, string>>;
  readonly challenge_public_example: string;
  readonly nl: { readonly public_text: string; readonly private_text: string; readonly cli_text: string };
}
const { keys, node_public_parse, prefixes, challenge_public_example, nl } = vectors<KeyVectors>("keys.json");
const key32 = fc.uint8Array({ minLength: 32, maxLength: 32 });
const publicKeys = [NodePublic, MachinePublic, DiscoPublic] as const;

test.each(keys)("public key $public_base64 has the published forms", (v) => {
  const raw = portableSuite.x25519Public(hex(v.private_raw));
  expect(toHex(raw)).toBe(v.public_raw);
  expect(toHex(raw)).toBe(v.untyped_hex);
  expect(Buffer.from(raw).toString("base64")).toBe(v.public_base64);
  expect(toHex(concat(utf8("np"), NodePublic.fromBytes(raw).bytes))).toBe(v.node_public_binary);
  expect(NodePublic.fromBytes(raw).text).toBe(v.node_public_text);
  expect(NodePublic.fromBytes(raw).short).toBe(v.node_public_short);
  expect(MachinePublic.fromBytes(raw).text).toBe(v.machine_public_text);
  expect(MachinePublic.fromBytes(raw).short).toBe(v.machine_public_short);
  expect(DiscoPublic.fromBytes(raw).text).toBe(v.disco_public_text);
  expect(DiscoPublic.fromBytes(raw).short).toBe(v.disco_public_short);
});

test.each(keys)("the private key of $public_base64 has the published forms", (v) => {
  const raw = hex(v.private_raw);
  expect(toHex(portableSuite.x25519Public(clampPrivateKey(raw)))).toBe(v.public_raw);
  expect(formatPrivateKey(new NodePrivate(raw))).toBe(v.node_private_text);
  expect(formatPrivateKey(new MachinePrivate(raw))).toBe(v.machine_private_text);
  expect(parsePrivateKey(v.node_private_text)).toEqual(raw);
});

test.each(node_public_parse)("parsing '$text' succeeds: $ok", ({ text, ok, is_zero }) => {
  if (!ok) expect(() => NodePublic.parse(text)).toThrow();
  else expect(NodePublic.parse(text).isZero).toBe(is_zero);
});

test("the prefixes are the published ones", () => {
  expect([NodePublic.prefix, MachinePublic.prefix, DiscoPublic.prefix]).toEqual([
    prefixes["node public"],
    prefixes["machine public"],
    prefixes["disco public"],
  ]);
  expect(formatPrivateKey(new NodePrivate(new Uint8Array(32)))).toMatch(/^privkey:0{64}$/);
  expect(prefixes["node/machine/disco/challenge private"]).toBe("privkey:");
});

test.each([challenge_public_example, nl.public_text, nl.cli_text, nl.private_text])(
  "a key of a kind that we don't use is taken for no other: %s",
  (text) => {
    for (const kind of publicKeys) expect(() => kind.parse(text)).toThrow("a key here begins with");
    expect(() => parsePrivateKey(text)).toThrow("a key here begins with privkey:");
  },
);

test("every public key survives its text, in either case", () => {
  fc.assert(
    fc.property(key32, fc.constantFrom(...publicKeys), (raw, kind) => {
      const key = kind.fromBytes(raw);
      expect(kind.parse(key.text).bytes).toEqual(raw);
      expect(kind.parse(kind.prefix + toHex(raw).toUpperCase()).text).toBe(key.text);
      expect(JSON.parse(JSON.stringify(key))).toBe(key.text);
    }),
  );
});

test("any text is a key or a ParseError, which does not repeat the text", () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      for (const parse of [NodePublic.parse, parsePrivateKey]) {
        for (const whole of [text, `nodekey:${text}`, `privkey:${text}`]) {
          expect(() => parse(whole)).toThrow(expect.objectContaining({ name: "ParseError" }));
        }
      }
    }),
  );
  expect(() => parsePrivateKey(`privkey:${"5e".repeat(31)}zz`)).not.toThrow(/5e5e/);
});

test("clamping gives a private key of RFC 7748, and again the same", () => {
  fc.assert(
    fc.property(key32, (raw) => {
      const [first = 0, last = 0] = [clampPrivateKey(raw)[0], clampPrivateKey(raw)[31]];
      expect([first & 7, last >> 6]).toEqual([0, 1]);
      expect(clampPrivateKey(clampPrivateKey(raw))).toEqual(clampPrivateKey(raw));
    }),
  );
});

test("a key keeps its own copy of the bytes and gives out copies", () => {
  const raw = new Uint8Array(32).fill(1);
  const key = NodePublic.fromBytes(raw);
  raw.fill(2);
  key.bytes.fill(3);
  expect(key.bytes).toEqual(new Uint8Array(32).fill(1));
});

test.each([31, 33])("%d bytes are no key", (length) => {
  for (const kind of publicKeys) expect(() => kind.fromBytes(new Uint8Array(length))).toThrow("32 bytes");
  expect(() => new DiscoPrivate(new Uint8Array(length))).toThrow("32 bytes");
});

test("no way of printing a private key shows it", () => {
  for (const kind of [NodePrivate, MachinePrivate, DiscoPrivate]) {
    const key = new kind(new Uint8Array(32).fill(0xab));
    for (const shown of [
      String(key),
      JSON.stringify({ key }),
      inspect({ key }, { showHidden: true, depth: 9 }),
    ]) {
      expect(shown).not.toMatch(/ab|171/);
    }
  }
});
