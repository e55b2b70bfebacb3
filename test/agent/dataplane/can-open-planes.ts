/** `test` where data planes can be opened. */
import { loadFastCalls } from "../../../agent/src/io/ffi/fast-calls.ts";
import { isAbsent } from "../../../agent/src/io/ffi/koffi.ts";
import { loadLibc } from "../../../agent/src/io/ffi/libc.ts";
import { requires } from "../../skip.ts";

export const canOpenPlanes = requires(
  "koffi",
  !isAbsent(loadFastCalls()) && !isAbsent(loadLibc()),
  "the data plane needs koffi on 64-bit Linux",
);
