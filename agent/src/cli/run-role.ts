/** Runs a role until Ctrl-C or SIGTERM, then ends it within two seconds. */
import { type Millis, seconds } from "../base/time.ts";
import type { CommandContext, RunningRole } from "./context.ts";

/** Returns the exit code, 0. What the start throws is passed on. */
export async function runRole(starting: Promise<RunningRole>, context: CommandContext): Promise<number> {
  const { interrupt } = context.stdio;
  const interrupted = new Promise<undefined>((resolve) => {
    if (interrupt.aborted) resolve(undefined);
    else interrupt.addEventListener("abort", () => resolve(undefined), { once: true });
  });
  const started = await Promise.race([starting, interrupted]);
  await interrupted;
  const closed = new AbortController();
  // A start or an end that fails now ends all the same.
  const closing = close(started ?? starting)
    .catch(() => {})
    .finally(() => closed.abort());
  await Promise.race([closing, context.sleep(CLOSE_WITHIN, closed.signal)]);
  return 0;
}

const CLOSE_WITHIN: Millis = seconds(2);

async function close(role: RunningRole | Promise<RunningRole>): Promise<void> {
  await (await role).close();
}
