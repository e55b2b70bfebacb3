/**
 * Compiles the fast path's AssemblyScript to WebAssembly, and writes it as a module that any bundle can hold.
 *
 * `node bin/build-wasm.mjs` after a change of the source; with `--check` it only says whether that was forgotten, and a
 * test asks so.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isMain, root, say } from "./install.mjs";

const SOURCE = "agent/src/dataplane/wasm/packets.as";
const MODULE = "agent/src/dataplane/wasm/packets-module.ts";

/** The text of the module. */
async function compileWasm() {
  const { main } = await import("assemblyscript/asc");
  const source = readFileSync(join(root, SOURCE), "utf8");
  let binary;
  let said = "";
  const { error } = await main(
    [
      ...["packets.ts", "--outFile", "packets.wasm", "--runtime", "stub", "--noAssert", "-O3", "--converge"],
      ...["--enable", "simd", "--enable", "threads", "--enable", "bulk-memory"],
      ...["--importMemory", "--sharedMemory", "--initialMemory", "1", "--maximumMemory", "65536"],
      ...["--noExportMemory", "--memoryBase", "1024"],
    ],
    {
      readFile: (name) => (name.endsWith("packets.ts") ? source : null),
      writeFile: (name, content) => {
        if (name.endsWith(".wasm")) binary = content;
      },
      listFiles: () => [],
      stderr: { write: (text) => void (said += text) },
    },
  );
  if (error !== null || binary === undefined) throw new Error(`${SOURCE}: ${said}`);
  return moduleText(binary);
}

function moduleText(binary) {
  const base64 = Buffer.from(binary).toString("base64");
  const lines = base64.match(/.{1,100}/g) ?? [];
  return `/** Made from packets.as by bin/build-wasm.mjs: change that, not this. */
export const PACKETS_WASM: string = [
${lines.map((line) => `  "${line}",`).join("\n")}
].join("");
`;
}

if (isMain(import.meta.url)) {
  const text = await compileWasm();
  const isCheck = process.argv[2] === "--check";
  if (!isCheck) writeFileSync(join(root, MODULE), text);
  else if (readFileSync(join(root, MODULE), "utf8") !== text) {
    say(`${MODULE} is not what ${SOURCE} compiles to: run node bin/build-wasm.mjs`);
    process.exitCode = 1;
  }
}
