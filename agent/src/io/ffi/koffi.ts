/**
 * Finds koffi, the library by which Node calls C functions.
 *
 * Its native file lies beside the bundle (`koffi.node`) or in node_modules. It is `require`d from the
 * place where this module runs, so that it loads once per process under Jest, tsx and in a bundle alike;
 * the JavaScript around it adds nothing but deprecation notices. Where there is none, callers fall back
 * to what Node alone can do.
 */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import type * as koffi from "koffi";

export type Koffi = typeof koffi;

/** Something that this machine does not offer, and why. */
export interface Absent {
  readonly absent: string;
}

/** Set to 1 to do without C functions, as on a platform that koffi was not built for. */
const OFF_SWITCH = "SALLYPORT_NO_FFI";

let found: Koffi | Absent | undefined;

export function isAbsent<T extends object>(value: T | Absent): value is Absent {
  return "absent" in value;
}

/** Never throws. The answer is remembered, except that SALLYPORT_NO_FFI is read each time. */
export function loadKoffi(): Koffi | Absent {
  if (process.env[OFF_SWITCH] === "1") return { absent: `${OFF_SWITCH} is 1` };
  found ??= findKoffi();
  return found;
}

function findKoffi(): Koffi | Absent {
  const load = createRequire(import.meta.url);
  try {
    const beside = new URL("koffi.node", import.meta.url);
    return asKoffi(existsSync(beside) ? load("./koffi.node") : loadFromPackage(load));
  } catch (error) {
    const [reason = ""] = String(error).split("\n");
    return { absent: `koffi.node for ${process.platform}-${process.arch} can not be loaded: ${reason}` };
  }
}

/** The package for this platform is koffi's dependency, so it is looked for where koffi would. */
function loadFromPackage(load: NodeJS.Require): unknown {
  const fromKoffi = createRequire(load.resolve("koffi"));
  return fromKoffi(`@koromix/koffi-${process.platform}-${process.arch}`);
}

function asKoffi(module: unknown): Koffi {
  if (typeof module === "object" && module !== null && "load" in module && "node" in module) {
    return module as Koffi;
  }
  throw new Error("the file is not koffi");
}
