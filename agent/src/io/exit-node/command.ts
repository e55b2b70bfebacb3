/** Runs a program of the system to its end: ip, nft, ethtool. */
import { spawn } from "node:child_process";
import { OperationError } from "../../base/errors.ts";
import { codeOf } from "../system-error.ts";

export interface Ran {
  /** -1 when a signal ended it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Which package of a distribution brings it. */
const PACKAGES: Readonly<Record<string, string>> = { ip: "iproute2", nft: "nftables", ethtool: "ethtool" };

/** None of them takes longer; a lock that another program holds would. */
const TIMEOUT_MS = 10_000;

/** @throws OperationError when it can not be started */
export function run(command: string, args: readonly string[], stdin = ""): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, LC_ALL: "C", PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` };
    const child = spawn(command, args, { env, stdio: ["pipe", "pipe", "pipe"], timeout: TIMEOUT_MS });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.stdin.on("error", () => {}); // it ended before it read everything: its exit says why
    child.on("error", (cause) => {
      const name = PACKAGES[command] ?? command;
      const text = `the command "${command}" can not be started (${codeOf(cause)}): install ${name}`;
      reject(new OperationError("forwarding-no-command", text, { cause }));
    });
    child.on("close", (code) => resolve({ code: code ?? -1, stdout, stderr }));
    child.stdin.end(stdin);
  });
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
