/** Runs the system's own programs (`ip`, `nft`, `sh`) to their end, with a limit in time. */
import { spawn } from "node:child_process";
import { OperationError } from "../agent/src/base/errors.ts";

export interface RunOptions {
  readonly input?: string;
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** @default 10000 */
  readonly timeoutMs?: number;
}

/** What the program printed. @throws OperationError with what it said on stderr when it fails */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd ?? process.cwd(),
      env: options.env ?? process.env,
      stdio: "pipe",
    });
    const timer = setTimeout(() => child.kill("SIGKILL"), options.timeoutMs ?? 10_000);
    let [out, complaint] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => (out += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (complaint += text));
    child.on("error", (cause: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      const missing = cause.code === "ENOENT" ? `${command} is not installed` : cause.message;
      reject(new OperationError("lab-command", `can not run ${command}: ${missing}`, { cause }));
    });
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      if (code === 0) resolve(out);
      else
        reject(
          new OperationError(
            "lab-command",
            `${command} ${args.join(" ")} failed (${signal ?? code}): ${complaint.trim()}`,
          ),
        );
    });
    // A program that ends before it has read everything is judged by its exit code.
    child.stdin.on("error", () => {});
    child.stdin.end(options.input ?? "");
  });
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
