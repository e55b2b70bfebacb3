/** The programs by which an exit node tells the kernel what it should do. */
import { OperationError } from "../../base/errors.ts";
import { type Ran, runProgram } from "../command.ts";

/** Which package of a distribution brings it. */
const PACKAGES: Readonly<Record<string, string>> = { ip: "iproute2", nft: "nftables", ethtool: "ethtool" };

/** None of them takes longer; a lock that another program holds would. */
const TIMEOUT_MS = 10_000;

/** @throws OperationError when it can not be started */
export function run(command: string, args: readonly string[], stdin = ""): Promise<Ran> {
  const absent = { code: "forwarding-no-command", remedy: `install ${PACKAGES[command] ?? command}` };
  return runProgram(command, args, { stdin, timeoutMs: TIMEOUT_MS, absent });
}

/** As `run`, and a failure is an error with what the program said first. @throws OperationError */
export async function runWell(command: string, args: readonly string[], stdin = ""): Promise<string> {
  const { code, stdout, stderr } = await run(command, args, stdin);
  if (code === 0) return stdout;
  throw new OperationError("forwarding-command", refused(`${command} ${args.join(" ")}`, stderr, code));
}

export function refused(what: string, stderr: string, code: number): string {
  const said = stderr.split("\n").find((line) => line.trim() !== "") ?? `code ${code}`;
  const reason = said.replace(/^(RTNETLINK answers|Error): /, "").trim();
  const remedy = /not permitted|denied/.test(reason)
    ? "run as root or give CAP_NET_ADMIN"
    : "see that the kernel has nf_tables and that nothing else manages this interface";
  return `"${what}" failed (${reason}): ${remedy}`;
}
