/** `npm run fuzz:dataplane` outside of Jest, whose sandbox makes each use of a global several times slower. */
import { parseArgs } from "node:util";
import { fuzz } from "./fuzz.ts";

const { values } = parseArgs({
  options: {
    packets: { type: "string", default: "1000000" },
    seed: { type: "string", default: "1" },
  },
});
const [packets, seed] = [Number(values.packets), Number(values.seed)];
process.stderr.write(`fuzz: ${packets} packets, seed ${seed}\n`);
fuzz({ packets, seed, say: (text) => process.stderr.write(`fuzz: ${text}\n`) });
