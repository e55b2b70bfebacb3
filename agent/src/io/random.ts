import { randomFillSync } from "node:crypto";
import type { Random } from "../base/random.ts";

/** The operating system's randomness, good for keys. */
export const systemRandom: Random = {
  fill(out) {
    randomFillSync(out);
  },
};
