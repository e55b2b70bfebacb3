/** The program of the data plane's threads in a folder of its own, as a test starts it without the bundle. */
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { buildSync } from "esbuild";

let folder: string | undefined;

/** The folder with `dataplane.mjs`. */
export function buildWorker(): string {
  folder = mkdtempSync(join(tmpdir(), "sallyport-dataplane-"));
  const source = join(__dirname, "../../../agent/src/dataplane/worker.ts");
  const banner = 'import { createRequire as r } from "node:module"; const require = r(import.meta.url);';
  buildSync({
    ...{ entryPoints: [source], outfile: join(folder, "dataplane.mjs"), bundle: true },
    ...{ platform: "node", format: "esm", banner: { js: banner } },
  });
  const native = nativeFile();
  if (native !== undefined) copyFileSync(native, join(folder, "koffi.node"));
  return folder;
}

export function removeWorker(): void {
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
}

function nativeFile(): string | undefined {
  const found = join(
    dirname(require.resolve("koffi")),
    `../@koromix/koffi-${process.platform}-${process.arch}`,
  );
  if (!existsSync(found)) return undefined;
  const files = readdirSync(found, { recursive: true, encoding: "utf8" });
  const name = files.filter((file) => file.endsWith("koffi.node")).find((file) => !file.startsWith("musl"));
  return name === undefined ? undefined : join(found, name);
}
