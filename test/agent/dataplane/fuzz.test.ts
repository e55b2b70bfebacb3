/** A short run of `npm run fuzz:dataplane`; SALLYPORT_FUZZ_PACKETS and SALLYPORT_FUZZ_SEED say otherwise. */
import { canOpenPlanes } from "./can-open-planes.ts";
import { fuzz } from "./fuzz.ts";

const PACKETS = Number(process.env["SALLYPORT_FUZZ_PACKETS"] ?? 30_000);
const SEED = Number(process.env["SALLYPORT_FUZZ_SEED"] ?? 1);

canOpenPlanes(
  `${PACKETS} hostile packets change nothing but counters`,
  () => {
    const said: string[] = [];
    fuzz({ packets: PACKETS, seed: SEED, say: (text) => said.push(text) });
    expect(said.at(-1)).toContain(`${PACKETS} packets: `);
  },
  Math.max(60_000, PACKETS),
);
