/** Runs a program of the system to its end: ip, nft, ethtool, resolvectl. */
import { spawn } from "node:child_process";
import { OperationError } from "../base/errors.ts";
import { codeOf } from "./system-error.ts";

export interface Ran {
  /** -1 when a signal ended it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  /** @default nothing */
  readonly stdin?: string;
  /** When it is killed. @default never */
  readonly timeoutMs?: number;
  /** What is said where it can not be started. */
  readonly absent: { readonly code: string; readonly remedy: string };
}

/** In English, and found also where the path of a user lacks it. @throws OperationError when it can not be started */
export function runProgram(
  command: string,
  args: readonly string[],
  { stdin = "", timeoutMs, absent }: RunOptions,
): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      env: systemEnvironment(),
      stdio: ["pipe", "pipe", "pipe"],
      ...(timeoutMs === undefined ? {} : { timeout: timeoutMs }),
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.stdin.on("error", () => {}); // it ended before it read everything: its exit says why
    child.on("error", (cause) => {
      const text = `the command "${command}" can not be started (${codeOf(cause)}): ${absent.remedy}`;
      reject(new OperationError(absent.code, text, { cause }));
    });
    child.on("close", (code) => resolve({ code: code ?? -1, stdout, stderr }));
    child.stdin.end(stdin);
  });
}

export function systemEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env, LC_ALL: "C", PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` };
}
