/**
 * The join token: what a device needs to know to join, in one line: an auth key, and behind a "#" the pin of the server's
 * certificate. The coordination server writes it for the daemon on its own machine and, on AWS, for its administrators.
 */
import { OperationError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { writeParameter } from "../io/aws-secrets.ts";
import { readStateFile, writeFileAtomic } from "../io/state-store.ts";

export interface JoinTokenOptions {
  readonly authKeyFile: string;
  readonly certPin: string | undefined;
  /** @default none */
  readonly file: string | undefined;
  /** The name of a parameter of Systems Manager. @default none */
  readonly parameter: string | undefined;
  readonly log: Log;
  /** Writes the parameter. */
  readonly write?: (name: string, value: string) => Promise<void>;
  readonly retryMs?: number;
}

/** A role can take minutes to become usable. */
const RETRY_MS = 15_000;

/** Writes the file at once, and the parameter as soon as AWS takes it. Returns what ends the trying. */
export async function publishJoinToken(options: JoinTokenOptions): Promise<{ close(): void }> {
  const { authKeyFile, certPin, file, parameter, log, write = writeParameter } = options;
  const [key] = ((await readStateFile(authKeyFile)) ?? "").split(/\s+/);
  if (key === undefined || key === "") {
    throw new OperationError("no-auth-key", `${authKeyFile} holds no auth key: remove it to have one made`);
  }
  const token = certPin === undefined ? key : `${key}#${certPin}`;
  if (file !== undefined) await writeFileAtomic(file, `${token}\n`);
  if (parameter === undefined) return { close() {} };
  let timer: NodeJS.Timeout | undefined;
  let closed = false;
  const attempt = async (): Promise<void> => {
    try {
      await write(parameter, token);
      log.info("join-token-written", { parameter });
    } catch (error) {
      log.warn("join-token", { parameter, error: error instanceof Error ? error.message : String(error) });
      if (!closed) timer = setTimeout(() => void attempt(), options.retryMs ?? RETRY_MS);
    }
  };
  void attempt();
  return {
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}
