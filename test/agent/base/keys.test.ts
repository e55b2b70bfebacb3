import { inspect } from "node:util";
import { MachinePublic, NodePrivate, NodePublic, DiscoPublic } from "../../../agent/src/base/keys.ts";
import { portableSuite } from "../../../agent/src/crypto/portable.ts";
import { hex, vectors } from "../../vectors/load.ts";

interface KeyVectors {
  readonly keys: readonly Record<string, string>[];
  readonly node_public_parse: readonly { readonly text: string; readonly ok: boolean; readonly is_zero: boolean }[];
}
const { keys, node_public_parse } = vectors<KeyVectors>("keys.json");

test.each(keys)("public key $public_base64 has the published forms", (v) => {
  const raw = portableSuite.x25519Public(hex(v["private_raw"] ?? ""));
  expect(NodePublic.fromBytes(raw).text).toBe(v["node_public_text"]);
  expect(NodePublic.fromBytes(raw).short).toBe(v["node_public_short"]);
  expect(MachinePublic.fromBytes(raw).text).toBe(v["machine_public_text"]);
  expect(DiscoPublic.fromBytes(raw).text).toBe(v["disco_public_text"]);
  expect(DiscoPublic.fromBytes(raw).short).toBe(v["disco_public_short"]);
});

test.each(node_public_parse)("parsing '$text' succeeds: $ok", ({ text, ok, is_zero }) => {
  if (!ok) expect(() => NodePublic.parse(text)).toThrow();
  else expect(NodePublic.parse(text).isZero).toBe(is_zero);
});

test("no way of printing a private key shows it", () => {
  const key = new NodePrivate(new Uint8Array(32).fill(0xab));
  for (const shown of [String(key), JSON.stringify({ key }), inspect({ key }, { showHidden: true, depth: 9 })]) {
    expect(shown).not.toMatch(/ab|171/);
  }
});
