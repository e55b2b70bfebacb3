import fc from "fast-check";
import { concat } from "../../../../agent/src/base/bytes.ts";
import { FrameReader } from "../../../../agent/src/core/derp/frame-reader.ts";

function frame(type: number, body: Uint8Array): Uint8Array {
  const length = body.length;
  return concat(Uint8Array.of(type, length >> 24, length >> 16, length >> 8, length), body);
}

function readAll(reader: FrameReader, chunks: readonly Uint8Array[]): (string | [number, number[]])[] {
  const read: (string | [number, number[]])[] = [];
  for (const chunk of chunks) {
    reader.feed(chunk);
    for (let next = reader.next(); next !== undefined; next = reader.next()) {
      if (next === "too-large") return [...read, next];
      read.push([next.type, [...next.body]]);
    }
  }
  return read;
}

test("a stream gives the same frames however it is cut", () => {
  const anyFrames = fc.array(
    fc.tuple(fc.constantFrom(4, 5, 6, 0x12, 0x7f, 0xff), fc.uint8Array({ maxLength: 40 })),
  );
  fc.assert(
    fc.property(anyFrames, fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1 }), (frames, cuts) => {
      const stream = concat(...frames.map(([type, body]) => frame(type, body)));
      const chunks: Uint8Array[] = [];
      for (let from = 0, i = 0; from < stream.length; i++) {
        const to = from + (cuts[i % cuts.length] ?? 1);
        chunks.push(stream.slice(from, to));
        from = to;
      }
      const reader = new FrameReader(1000);
      const known = frames.filter(([type]) => type < 0x70);
      expect(readAll(reader, chunks)).toEqual(known.map(([type, body]) => [type, [...body]]));
      expect(reader.skipped).toBe(frames.length - known.length);
    }),
  );
});

test("a frame above the limit is the end", () => {
  const reader = new FrameReader(8);
  expect(readAll(reader, [frame(6, new Uint8Array(8)), frame(6, new Uint8Array(9))])).toEqual([
    [6, [0, 0, 0, 0, 0, 0, 0, 0]],
    "too-large",
  ]);
});

test("a frame that lies whole in a chunk is a view of it", () => {
  const reader = new FrameReader(100);
  const chunk = frame(4, Uint8Array.of(1, 2, 3));
  reader.feed(chunk);
  const raw = reader.next();
  expect(typeof raw === "object" && raw.bytes.buffer === chunk.buffer).toBe(true);
});

test("any bytes are frames, a need for more, or the end", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 30 })), (chunks) => {
      readAll(new FrameReader(100), chunks);
    }),
  );
});
