import { buildSync } from "esbuild";
import { copyFileSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { requires } from "../skip.ts";

/** The lab's program, bundled into a folder of its own with koffi's native file, as it is shipped. */
export interface LabBundle {
  readonly folder: string;
  readonly self: readonly string[];
  remove(): void;
}

const root = join(__dirname, "../..");

export function bundleLab(): LabBundle {
  const folder = mkdtempSync(join(tmpdir(), "sallyport-test-lab-"));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  try {
    return { folder, self: [process.execPath, build(folder)], remove };
  } catch (error) {
    remove();
    throw error;
  }
}

function build(folder: string): string {
  const outfile = join(folder, "lab.mjs");
  buildSync({
    entryPoints: [join(root, "lab/main.ts")],
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20",
    outfile,
    // As bin/build.mjs has it, for CommonJS packages.
    banner: {
      js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
    },
    logLevel: "error",
  });
  const platform = `${process.platform}-${process.arch}`;
  const native = join(
    root,
    `node_modules/@koromix/koffi-${platform}`,
    platform.replace("-", "_"),
    "koffi.node",
  );
  if (existsSync(native)) copyFileSync(native, join(folder, "koffi.node"));
  return outfile;
}

/** Whether this machine can build labs; tests of namespaces need it. */
export const canBuildLabs = process.platform === "linux" && process.getuid?.() === 0;
export const LAB_NEEDS = "namespaces need Linux and root: run the tests as root";

/** What `npm run build` made: the program that users run. */
export const LAB_PROGRAM = join(root, "dist/lab/lab.mjs");

/** `test` where the built program can build labs. */
export function testWithLab(): jest.It {
  return existsSync(LAB_PROGRAM)
    ? requires("root", canBuildLabs, LAB_NEEDS)
    : requires("a build", false, "the lab's program is not there: run `npm run build`");
}
