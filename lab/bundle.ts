/** The agent's bundle, which the lab only ever takes from a folder. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { UsageError } from "../agent/src/base/errors.ts";

export const BUNDLE = "sallyport.mjs";

/** @throws UsageError when the folder has no agent */
export function checkBundle(folder: string): void {
  if (existsSync(join(folder, BUNDLE))) return;
  throw new UsageError("lab-bundle", `there is no agent in ${folder}: run \`npm run build\` first`);
}
