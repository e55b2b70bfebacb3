import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type App, Testing } from "cdktf";

/** An app for stacks that are read and never written. cdktf makes it a folder at once, which nothing would remove. */
export function testApp(): App {
  const outdir = mkdtempSync(join(tmpdir(), "sallyport-app-"));
  const app = Testing.app({ outdir });
  rmSync(outdir, { recursive: true });
  return app;
}
