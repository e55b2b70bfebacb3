import fc from "fast-check";
import { RingReader, RingWriter } from "../../../agent/src/dataplane/ring.ts";

const SIZE = 1024;
const SOURCE = 2048;

function openRing(): {
  readonly writer: RingWriter;
  readonly reader: RingReader;
  readonly bytes: Uint8Array;
} {
  const memory = new SharedArrayBuffer(4096);
  const place = { at: 512, size: SIZE, words: 16 };
  return {
    writer: new RingWriter(memory, 0, place),
    reader: new RingReader(memory, 0, place),
    bytes: new Uint8Array(memory),
  };
}

test("records come out whole and in order; what does not fit is dropped and counted", () => {
  const actions = fc.array(fc.oneof(fc.nat({ max: 300 }), fc.constant("read" as const)), { maxLength: 80 });
  fc.assert(
    fc.property(actions, (script) => {
      const { writer, reader, bytes } = openRing();
      const expected: string[] = [];
      const received: string[] = [];
      let dropped = 0;
      const read = (limit: number): void =>
        reader.drain(limit, (kind, a, b, content) => received.push(`${kind} ${a} ${b} ${content.join()}`));
      for (const [i, action] of script.entries()) {
        if (action === "read") {
          read(2);
          continue;
        }
        for (let k = 0; k < action; k++) bytes[SOURCE + k] = (i + k) & 0xff;
        const half = action >> 1;
        if (writer.push(3, i, -i, SOURCE, half, SOURCE + half, action - half))
          expected.push(`3 ${i} ${-i} ${bytes.slice(SOURCE, SOURCE + action).join()}`);
        else dropped++;
      }
      read(1000);
      expect(received).toEqual(expected);
      expect([writer.dropped, reader.isEmpty]).toEqual([dropped, true]);
    }),
  );
});
