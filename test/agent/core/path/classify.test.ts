import fc from "fast-check";
import { concat, toHex } from "../../../../agent/src/base/bytes.ts";
import { classify, classifyRelayed } from "../../../../agent/src/core/path/classify.ts";
import { decodeGeneve, encodeGeneve } from "../../../../agent/src/core/path/geneve.ts";
import { hex, vectors } from "../../../vectors/load.ts";

interface DemuxVector {
  readonly name: string;
  readonly packet: string;
  readonly geneve: boolean;
  readonly type: string;
}
interface GeneveVector {
  readonly name: string;
  readonly header: string;
  readonly control: boolean;
  readonly protocol: number;
  readonly vni: number;
}
const { demux } = vectors<{ readonly demux: readonly DemuxVector[] }>("paths.json");
const { geneve } = vectors<{ readonly geneve: readonly GeneveVector[] }>("disco.json");

test.each(demux)("$name", (v) => {
  const found = classify(hex(v.packet));
  if (!v.geneve) {
    expect(found).toBe(v.type);
    return;
  }
  expect(found).toMatchObject({ kind: "geneve", header: { protocol: v.type, vni: 7 } });
  expect(typeof found === "object" && toHex(found.packet)).toBe(v.packet.slice(16));
});

test("behind a relay there is neither STUN nor Geneve", () => {
  for (const { packet, type, geneve: isGeneve } of demux) {
    expect(classifyRelayed(hex(packet))).toBe(type === "disco" && !isGeneve ? "disco" : "wireguard");
  }
});

test.each(geneve)("writes and reads the Geneve header of $name", (v) => {
  const protocol = v.protocol === 0x7a11 ? "disco" : "wireguard";
  const header = { protocol, control: v.control, vni: v.vni } as const;
  expect(toHex(encodeGeneve(header))).toBe(v.header);
  expect(decodeGeneve(hex(v.header))).toEqual(header);
});

test("a Geneve header survives the wire, whatever follows it", () => {
  const header = fc.record({
    protocol: fc.constantFrom("disco" as const, "wireguard" as const),
    control: fc.boolean(),
    vni: fc.nat({ max: 0xff_ffff }),
  });
  fc.assert(
    fc.property(header, fc.uint8Array(), (sent, rest) => {
      expect(decodeGeneve(concat(encodeGeneve(sent), rest))).toEqual(sent);
    }),
  );
});

test("any bytes are of some kind", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
      expect(classify(bytes)).toBeDefined();
      expect(["disco", "wireguard"]).toContain(classifyRelayed(bytes));
    }),
  );
});
