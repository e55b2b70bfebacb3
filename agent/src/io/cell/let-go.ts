/** Ends the agent on this machine so that its volume can move: its units stop, and the file system is unmounted. */
import { run, runWell } from "../exit-node/command.ts";

const UNITS = ["sallyport-agent.service", "sallyport-relay.service"];

/** @param mountPoint of the volume that moves. @throws OperationError */
export async function letGo(mountPoint: string | undefined): Promise<void> {
  await run("systemctl", ["stop", ...UNITS]);
  if (mountPoint === undefined || (await run("mountpoint", ["-q", mountPoint])).code !== 0) return;
  await runWell("umount", [mountPoint]);
}
