/**
 * Compiles the fast path's AssemblyScript to WebAssembly, and writes it as a module that any bundle can hold.
 *
 * `node bin/build-wasm.mjs` after a change of the source; with `--check` it only says whether that was forgotten, and a
 * test asks so.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { isMain, root, say } from "./install.mjs";

const FOLDER = "agent/src/dataplane/wasm";
const NAMES = ["packets", "aead"];

const sourceOf = (name) => `${FOLDER}/${name}.as`;
const moduleOf = (name) => `${FOLDER}/${name}-module.ts`;

/** The text of the module. */
async function compileWasm(name) {
  const { main } = await import("assemblyscript/asc");
  let binary;
  let said = "";
  const { error } = await main(
    [
      ...[`${name}.ts`, "--outFile", "made.wasm", "--runtime", "stub", "--noAssert", "-O3", "--converge"],
      ...["--enable", "simd", "--enable", "threads", "--enable", "bulk-memory"],
      ...["--importMemory", "--sharedMemory", "--initialMemory", "1", "--maximumMemory", "65536"],
      ...["--noExportMemory", "--memoryBase", "1024"],
    ],
    {
      readFile(file) {
        const path = join(root, sourceOf(basename(file, ".ts")));
        return existsSync(path) ? readFileSync(path, "utf8") : null;
      },
      writeFile: (file, content) => {
        if (file.endsWith(".wasm")) binary = content;
      },
      listFiles: () => [],
      stderr: { write: (text) => void (said += text) },
    },
  );
  if (error !== null || binary === undefined) throw new Error(`${sourceOf(name)}: ${said}`);
  return moduleText(name, binary);
}

function moduleText(name, binary) {
  const base64 = Buffer.from(binary).toString("base64");
  const lines = base64.match(/.{1,100}/g) ?? [];
  return `/** Made from ${name}.as by bin/build-wasm.mjs: change that, not this. */
export const ${name.toUpperCase()}_WASM: string = [
${lines.map((line) => `  "${line}",`).join("\n")}
].join("");
`;
}

if (isMain(import.meta.url)) {
  const isCheck = process.argv[2] === "--check";
  for (const name of NAMES) {
    const text = await compileWasm(name);
    if (!isCheck) writeFileSync(join(root, moduleOf(name)), text);
    else if (readFileSync(join(root, moduleOf(name)), "utf8") !== text) {
      say(`${moduleOf(name)} is not what ${sourceOf(name)} compiles to: run node bin/build-wasm.mjs`);
      process.exitCode = 1;
    }
  }
}
