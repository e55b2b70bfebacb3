import fc from "fast-check";
import { concat } from "../../../../agent/src/base/bytes.ts";
import { joinFrames, PacketQueue } from "../../../../agent/src/core/derp/packet-queue.ts";

const drained = (queue: PacketQueue): Uint8Array[] => {
  const frames: Uint8Array[] = [];
  queue.drainTo(frames);
  return frames;
};

test("a full queue keeps the newest, by number and by bytes", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 20 })), (frames) => {
      const queue = new PacketQueue({ packets: 5, bytes: 40 });
      let dropped = 0;
      for (const frame of frames) dropped += queue.push(frame)?.packets ?? 0;
      const kept = drained(queue);
      expect(kept).toEqual(frames.slice(dropped));
      expect(kept.length).toBeLessThanOrEqual(5);
      expect(concat(...kept).length).toBeLessThanOrEqual(40);
      expect([queue.size, queue.bytes]).toEqual([0, 0]);
    }),
  );
});

test("joined frames are the frames one after the other, and neighbours are joined without a copy", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 2 }), fc.nat(), fc.boolean(), (bytes, cut, swapped) => {
      const at = 1 + (cut % (bytes.length - 1));
      const frames = [bytes.subarray(0, at), bytes.subarray(at)];
      if (swapped) frames.reverse();
      const joined = joinFrames(frames);
      expect(joined).toEqual(concat(...frames));
      expect(joined?.buffer === bytes.buffer).toBe(!swapped);
    }),
  );
});

test("nothing joined is nothing", () => {
  expect(joinFrames([])).toBeUndefined();
});
