/** A program: prints which way of sealing is taken when each is asked for, after its known answers were tried here. */
import { chooseAead } from "../../agent/src/dataplane/aead.ts";
import { aeadNames } from "../../agent/src/dataplane/aead-names.ts";
import { createMemory, openPackets, planMemory } from "../../agent/src/dataplane/memory.ts";
import { loadFastCalls } from "../../agent/src/io/ffi/fast-calls.ts";
import { isAbsent } from "../../agent/src/io/ffi/koffi.ts";

const layout = planMemory({ mtu: 1280, maxSessions: 1, maxPeers: 1 });
const memory = createMemory(layout);
const calls = loadFastCalls();
const base = isAbsent(calls) ? 0 : calls.addressOf(new Uint8Array(memory.buffer));
const at = { memory, layout, packets: openPackets(memory, layout, base), base };

const taken = aeadNames.map((way) => [way, chooseAead(at, way).aead.name]);
process.stdout.write(JSON.stringify(Object.fromEntries(taken)));
