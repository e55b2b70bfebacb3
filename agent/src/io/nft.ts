/** Gives a script to `nft`, which does all of it or nothing. */
import { OperationError } from "../base/errors.ts";
import { runProgram } from "./command.ts";

const ABSENT = {
  code: "no-nft",
  remedy: "install nftables, without which nothing would keep traffic in the tunnel",
};

/** @param command the program of nftables @throws OperationError with what it said */
export async function runNft(script: string, command = "nft"): Promise<void> {
  const { code, stderr } = await runProgram(command, ["-f", "-"], { stdin: script, absent: ABSENT });
  if (code === 0) return;
  const [first = ""] = stderr.trim().split("\n");
  const said = first === "" ? `code ${code}` : first;
  throw new OperationError("nft", `"${command} -f -" failed: ${said}: run as root, or give CAP_NET_ADMIN`);
}
