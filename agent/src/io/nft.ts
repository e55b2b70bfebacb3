/** Gives a script to `nft`, which does all of it or nothing. */
import { spawn } from "node:child_process";
import { OperationError } from "../base/errors.ts";
import { codeOf } from "./system-error.ts";

/** @param command the program of nftables @throws OperationError with what it said */
export function runNft(script: string, command = "nft"): Promise<void> {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, LC_ALL: "C", PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` };
    const child = spawn(command, ["-f", "-"], { env, stdio: ["pipe", "ignore", "pipe"] });
    let said = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (said += text));
    child.stdin.on("error", () => {}); // its exit says why
    child.on("error", (cause) => reject(startError(command, cause)));
    child.on("close", (code) => {
      if (code === 0) return resolve();
      const [first = `code ${code}`] = said.trim().split("\n");
      reject(
        new OperationError("nft", `"${command} -f -" failed: ${first}: run as root, or give CAP_NET_ADMIN`),
      );
    });
    child.stdin.end(script);
  });
}

function startError(command: string, cause: Error): OperationError {
  return new OperationError(
    "no-nft",
    `the command "${command}" can not be started (${codeOf(cause)}): install nftables, without which nothing would keep traffic in the tunnel`,
    { cause },
  );
}
