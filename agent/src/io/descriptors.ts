import { isAbsent } from "./ffi/koffi.ts";
import { loadLibc } from "./ffi/libc.ts";

/** Closes what was opened; a negative one is none. */
export function closeDescriptors(descriptors: readonly number[]): void {
  const libc = loadLibc();
  if (isAbsent(libc)) return;
  for (const fd of descriptors) if (fd >= 0) libc.close(fd);
}
