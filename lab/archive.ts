/**
 * The agent's archive for the machines of a lab: what `npm run bundle` makes, with this machine's own Node.js in the place of the
 * one from npm. So nothing is downloaded, and the user data fetches, checks and unpacks it as it does on AWS.
 */
import { createHash } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { run } from "./system.ts";

/** @param agent what `npm run build` made. @returns the archive's path; the same agent gives the same file */
export async function labArchive(root: string, agent: string): Promise<string> {
  const sums = readFileSync(join(agent, "SHA256SUMS"));
  const hash = createHash("sha256").update(sums).update(process.execPath).digest("hex").slice(0, 16);
  const file = join(root, "dist/lab-archive", `sallyport-agent-${hash}.tar`);
  if (existsSync(file)) return file;
  mkdirSync(dirname(file), { recursive: true });
  const folder = mkdtempSync(join(dirname(file), "making-"));
  try {
    const content = join(folder, "content");
    cpSync(agent, content, { recursive: true });
    const node = join(folder, "package/bin/node");
    mkdirSync(dirname(node), { recursive: true });
    writeFileSync(node, `#!/bin/sh\nexec '${process.execPath}' "$@"\n`);
    chmodSync(node, 0o755);
    await run("tar", ["-czf", join(content, "node.tgz"), "-C", folder, "package"]);
    await run("tar", ["-cf", join(folder, "agent.tar"), "-C", content, "."]);
    renameSync(join(folder, "agent.tar"), file);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return file;
}
