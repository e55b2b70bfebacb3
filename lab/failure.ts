/** What stays of a lab that failed: its logs and captures, which somebody will want to read when the lab is gone. */
import { cpSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { OperationError } from "../agent/src/base/errors.ts";

const PARTS = ["logs", "captures", "services/services.log"];

export class BuildFailure extends OperationError {
  /** The folder with the logs. */
  readonly kept: string;

  /** @param folder the lab's, which is gone */
  constructor(cause: OperationError, folder: string, kept: string) {
    const said = cause.message.replaceAll(folder, kept);
    super(cause.code, `the lab could not be built, and its logs are kept in ${kept}: ${said}`, { cause });
    this.kept = kept;
  }
}

/** Where a lab of that name leaves them. @param root the package's folder */
export function failuresOf(root: string, name: string): string {
  return join(root, "dist/lab-failures", name);
}

/** Copies them from the lab's folder into the place of those of the last failure. */
export function keepLogs(lab: string, to: string): void {
  rmSync(to, { recursive: true, force: true });
  mkdirSync(to, { recursive: true });
  for (const part of PARTS) {
    const from = join(lab, part);
    if (existsSync(from)) cpSync(from, join(to, part), { recursive: true });
  }
}
