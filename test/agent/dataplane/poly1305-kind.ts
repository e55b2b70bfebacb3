/** A program: prints which state of Poly1305 OpenSSL begins with on the processor that it takes this one for. */
import { createMemory, openPackets, planMemory } from "../../../agent/src/dataplane/memory.ts";
import { kindOfPoly1305State } from "../../../agent/src/dataplane/poly1305-state.ts";
import { loadFastCalls } from "../../../agent/src/io/ffi/fast-calls.ts";
import { isAbsent } from "../../../agent/src/io/ffi/koffi.ts";
import { loadRawChaCha } from "../../../agent/src/io/ffi/openssl.ts";

const layout = planMemory({ mtu: 1280, maxSessions: 1, maxPeers: 1 });
const memory = createMemory(layout);
const [calls, raw] = [loadFastCalls(), loadRawChaCha()];
if (!isAbsent(calls) && !isAbsent(raw)) {
  const base = calls.addressOf(new Uint8Array(memory.buffer));
  const packets = openPackets(memory, layout, base);
  process.stdout.write(String(kindOfPoly1305State(raw, { memory, layout, packets, base })));
}
