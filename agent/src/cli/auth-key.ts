/** Where an auth key comes from: never the command line itself, which every user of the machine may read. */
import { fromUtf8 } from "../base/bytes.ts";
import { OperationError, UsageError } from "../base/errors.ts";
import { readParameter, readSecret } from "../io/aws-secrets.ts";
import type { SecretSource } from "../io/config.ts";
import { readStateFile } from "../io/state-store.ts";
import type { CommandContext, Stdio } from "./context.ts";

/** What a device joins with. A join token of our server holds both, a plain auth key no pin. */
export interface JoinKey {
  readonly authKey: string | undefined;
  /** "sha256-raw:…" */
  readonly certPin: string | undefined;
}

type Around = Pick<CommandContext, "sleep"> & { readonly stdio: Pick<Stdio, "stdin" | "interrupt"> };

/**
 * @param waitSeconds for a file that another program has yet to write
 * @throws UsageError, OperationError; neither repeats the key
 */
export async function readJoinKey(
  source: SecretSource | undefined,
  around: Around,
  waitSeconds = 0,
): Promise<JoinKey> {
  if (source === undefined) return { authKey: undefined, certPin: undefined };
  const text = await readAuthKey(source, around, waitSeconds);
  const [, authKey, certPin] = /^([^#]+)#(sha256-raw:[0-9a-f]{64})$/.exec(text) ?? [];
  return authKey === undefined ? { authKey: text, certPin: undefined } : { authKey, certPin };
}

/** What Terraform writes into the parameter that a node then overwrites (constructs/join-parameter.ts). */
const NOT_YET = "pending";

async function readAuthKey(source: SecretSource, around: Around, waitSeconds: number): Promise<string> {
  const key = (await textOf(source, around, waitSeconds)).trim();
  if (key === NOT_YET) {
    throw new OperationError(
      "no-join-token-yet",
      `${nameOf(source)} holds no join token yet: its node writes it some minutes after it was deployed, so try again then`,
    );
  }
  if (!/^[\x21-\x7e]+$/.test(key)) {
    throw new UsageError(
      "bad-auth-key",
      `${nameOf(source)} holds no auth key: it is one line without spaces`,
    );
  }
  return key;
}

/** Between two looks for a file. */
const LOOK_EVERY_MS = 50;

async function textOf(source: SecretSource, { stdio, sleep }: Around, waitSeconds: number): Promise<string> {
  switch (source.kind) {
    case "literal":
      return source.secret;
    case "file": {
      for (let waited = 0; ; waited += LOOK_EVERY_MS) {
        const text = await readStateFile(source.path);
        if (text !== undefined) return text;
        if (waited >= waitSeconds * 1_000 || stdio.interrupt.aborted) break;
        await sleep(LOOK_EVERY_MS, stdio.interrupt);
      }
      throw new UsageError(
        "no-auth-key-file",
        `${source.path} is not there: give --auth-key file:PATH of a file`,
      );
    }
    case "ssm":
      return await readParameter(source.name);
    case "secretsmanager":
      return await readSecret(source.arn);
    case "stdin": {
      let text = "";
      for await (const chunk of stdio.stdin) text += typeof chunk === "string" ? chunk : fromUtf8(chunk);
      return text;
    }
  }
}

function nameOf(source: SecretSource): string {
  switch (source.kind) {
    case "literal":
      return "SALLYPORT_AUTH_KEY";
    case "file":
      return source.path;
    case "ssm":
      return `the parameter ${source.name}`;
    case "secretsmanager":
      return `the secret ${source.arn}`;
    case "stdin":
      return "standard input";
  }
}
