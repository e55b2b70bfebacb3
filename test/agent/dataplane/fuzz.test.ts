/** A short run of `npm run fuzz:dataplane`; SALLYPORT_FUZZ_PACKETS and SALLYPORT_FUZZ_SEED say otherwise. */
import { canOpenPlanes } from "./can-open-planes.ts";
import { HEADROOM, READ_SIZE, TAILROOM } from "../../../agent/src/dataplane/memory.ts";
import { fuzz, type FuzzOptions, GAP } from "./fuzz.ts";

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

type Mutate = NonNullable<FuzzOptions["mutate"]>;

/** Each writes where it must not, from the end of its own on. */
const OVERRUNS: readonly (readonly [string, Mutate])[] = [
  [
    "opening, 128 bytes behind its slot",
    (parts) => {
      const [{ aead, layout }, bytes] = [parts, new Uint8Array(parts.memory)];
      const open: typeof aead.open = (slot, ...rest) => {
        bytes.fill(0xee, slot + layout.slot - GAP, slot + layout.slot - GAP + 128);
        return aead.open(slot, ...rest);
      };
      parts.aead = { ...aead, open };
    },
  ],
  [
    "sealing, one byte behind its slot",
    (parts) => {
      const [{ aead, layout }, bytes] = [parts, new Uint8Array(parts.memory)];
      const seal: typeof aead.seal = (slot, ...rest) => {
        bytes[slot + layout.slot - GAP] = 0xee;
        aead.seal(slot, ...rest);
      };
      parts.aead = { ...aead, seal };
    },
  ],
  [
    "cutting, 60,000 bytes behind the read",
    (parts) => {
      const [{ packets, layout }, bytes] = [parts, new Uint8Array(parts.memory)];
      const end = layout.read + HEADROOM + READ_SIZE + TAILROOM;
      const begin: typeof packets.begin = (...read) => {
        bytes.fill(0xee, end, end + 60_000);
        return packets.begin(...read);
      };
      parts.packets = { ...packets, begin };
    },
  ],
];

canOpenPlanes.each(OVERRUNS)("what is written outside of its area is noticed: %s", (_, mutate) => {
  const run = (): void => fuzz({ packets: 2_000, seed: SEED, say: () => {}, mutate });
  expect(run).toThrow("the memory outside of its areas is as before");
});
