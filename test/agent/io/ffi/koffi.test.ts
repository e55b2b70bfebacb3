import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { buildSync } from "esbuild";
import { isAbsent, loadKoffi } from "../../../../agent/src/io/ffi/koffi.ts";
import { requires } from "../../../skip.ts";

const source = join(__dirname, "../../../../agent/src/io/ffi/koffi.ts");
/** Prints the process id that C's getpid returns, or why it can not. */
const PROGRAM = `
  const koffi = loadKoffi();
  console.log("absent" in koffi ? koffi.absent : koffi.load(null).func("int getpid()")() === process.pid);
`;

const withKoffi = requires("koffi", !isAbsent(loadKoffi()), "koffi has no native file here: npm install");

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sallyport-koffi-"));
});
afterEach(() => {
  delete process.env["SALLYPORT_NO_FFI"];
  rmSync(folder, { recursive: true });
});

function nativeFile(): string {
  const fromKoffi = createRequire(require.resolve("koffi"));
  const packageFolder = dirname(fromKoffi.resolve(`@koromix/koffi-${process.platform}-${process.arch}`));
  const build = readdirSync(packageFolder).find((name) => name === `${process.platform}_${process.arch}`);
  return join(packageFolder, build ?? ".", "koffi.node");
}

function bundle(): string {
  const entry = `import { loadKoffi } from ${JSON.stringify(source)};${PROGRAM}`;
  const outfile = join(folder, "program.mjs");
  buildSync({
    stdin: { contents: entry, resolveDir: __dirname, loader: "ts" },
    outfile,
    bundle: true,
    platform: "node",
    format: "esm",
  });
  return outfile;
}

function run(...args: readonly string[]): string {
  return execFileSync(process.execPath, args, { cwd: folder, encoding: "utf8" }).trim();
}

withKoffi("C functions can be called under Jest", () => {
  const koffi = loadKoffi();
  if (isAbsent(koffi)) throw new Error(koffi.absent);
  expect(koffi.load(null).func("int getpid()")()).toBe(process.pid);
  expect(loadKoffi()).toBe(koffi);
});

withKoffi("they can from a bundle in a folder with nothing but koffi.node beside it", () => {
  copyFileSync(nativeFile(), join(folder, "koffi.node"));
  expect(run(bundle())).toBe("true");
});

withKoffi("they can from the sources under tsx", () => {
  const program = join(folder, "program.mts");
  writeFileSync(program, `import { loadKoffi } from ${JSON.stringify(source)};${PROGRAM}`);
  expect(run("--import", require.resolve("tsx"), program)).toBe("true");
});

test("a bundle without the native file says so and runs on", () => {
  expect(run(bundle())).toMatch(/^koffi\.node for \S+ can not be loaded: .+/);
});

test("a damaged native file is absent with the reason", () => {
  writeFileSync(join(folder, "koffi.node"), "not a library");
  expect(run(bundle())).toMatch(/^koffi\.node for \S+ can not be loaded: .+/);
});

test("SALLYPORT_NO_FFI=1 does without", () => {
  process.env["SALLYPORT_NO_FFI"] = "1";
  expect(loadKoffi()).toEqual({ absent: "SALLYPORT_NO_FFI is 1" });
});
