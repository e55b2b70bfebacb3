import fc from "fast-check";
import {
  addWords,
  checksum,
  finishChecksum,
  updateChecksum,
} from "../../../../agent/src/core/ip/checksum.ts";
import { hex } from "../../../vectors/load.ts";

test("the example of RFC 1071 section 3", () => {
  expect(finishChecksum(addWords(hex("0001f203f4f5f6f7")))).toBe(~0xddf2 & 0xffff);
});

test("a message with its own checksum in place sums to zero", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 2, maxLength: 200 }), (bytes) => {
      bytes.set([0, 0]);
      const sum = checksum(bytes);
      bytes.set([sum >> 8, sum & 255]);
      expect(checksum(bytes)).toBe(0);
    }),
  );
});

test("sums of parts that begin at even offsets add up", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 8, maxLength: 64 }),
      fc.integer({ min: 0, max: 4 }),
      (bytes, half) => {
        const parts = addWords(bytes, 2 * half, bytes.length, addWords(bytes, 0, 2 * half));
        expect(finishChecksum(parts)).toBe(checksum(bytes));
      },
    ),
  );
});

test("a changed word updates the checksum as if all were read again", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 4, maxLength: 64 }),
      fc.integer({ min: 0, max: 0xffff }),
      (bytes, word) => {
        const before = checksum(bytes);
        const old = ((bytes[2] ?? 0) << 8) | (bytes[3] ?? 0);
        bytes.set([word >> 8, word & 255], 2);
        // 0 and 0xffff are the same number in ones' complement.
        expect(updateChecksum(before, old, word) % 0xffff).toBe(checksum(bytes) % 0xffff);
      },
    ),
  );
});
