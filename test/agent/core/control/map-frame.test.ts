import fc from "fast-check";
import { decompress } from "fzstd";
import { concat, fromUtf8, toHex, utf8 } from "../../../../agent/src/base/bytes.ts";
import {
  encodeMapFrame,
  isZstd,
  MapFrameReader,
  zstdStored,
} from "../../../../agent/src/core/control/map-frame.ts";
import { hex, vectors } from "../../../vectors/load.ts";

interface Case {
  readonly name: string;
  readonly json: string;
  readonly frame_zstd: string;
  readonly frame_plain?: string;
}
const { cases } = vectors<{ readonly cases: readonly Case[] }>("mapframe.json");

function only(frame: Uint8Array): Uint8Array {
  const reader = new MapFrameReader();
  reader.push(frame);
  const body = reader.poll();
  expect(reader.poll()).toBeUndefined();
  if (!(body instanceof Uint8Array)) throw new Error(String(body));
  return body;
}

test.each(cases)("$name", ({ json, frame_zstd: zstd, frame_plain: plain, name }) => {
  const compressed = only(hex(zstd));
  expect(isZstd(compressed)).toBe(true);
  expect(fromUtf8(decompress(compressed))).toBe(json);
  if (name.includes("stored")) expect(toHex(encodeMapFrame(zstdStored(utf8(json))))).toBe(zstd);
  if (plain === undefined) return;
  expect(isZstd(only(hex(plain)))).toBe(false);
  expect(fromUtf8(only(hex(plain)))).toBe(json);
  expect(toHex(encodeMapFrame(utf8(json)))).toBe(plain);
});

test.each([0, 1, 255, 256, 131_071, 131_072, 131_073, 400_000])(
  "%i stored bytes are what a decoder reads",
  (size) => {
    const content = Uint8Array.from({ length: size }, (_, i) => i * 7);
    expect(Buffer.compare(decompress(zstdStored(content)), content)).toBe(0);
  },
);

test("frames come out whole however the bytes are cut", () => {
  const bodies = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 6 });
  fc.assert(
    fc.property(bodies, fc.integer({ min: 1, max: 50 }), (sent, cut) => {
      const bytes = concat(...sent.map(encodeMapFrame));
      const reader = new MapFrameReader();
      const received: unknown[] = [];
      for (let at = 0; at < bytes.length; at += cut) {
        reader.push(bytes.subarray(at, at + cut));
        for (let body = reader.poll(); body !== undefined; body = reader.poll()) received.push(body);
      }
      expect(received).toEqual(sent);
    }),
  );
});

test("a frame beyond the limit ends the stream", () => {
  const reader = new MapFrameReader();
  reader.push(hex("ffffffff00"));
  expect([reader.poll(), reader.poll()]).toEqual(["too-long", "too-long"]);
});
