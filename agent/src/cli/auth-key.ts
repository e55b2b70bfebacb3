/** Where an auth key comes from: never the command line itself, which every user of the machine may read. */
import { fromUtf8 } from "../base/bytes.ts";
import { UsageError } from "../base/errors.ts";
import type { SecretSource } from "../io/config.ts";
import { readStateFile } from "../io/state-store.ts";
import type { Stdio } from "./context.ts";

/** @throws UsageError, OperationError; neither repeats the key */
export async function readAuthKey(
  source: SecretSource | undefined,
  stdio: Pick<Stdio, "stdin">,
): Promise<string | undefined> {
  if (source === undefined) return undefined;
  const key = (await textOf(source, stdio)).trim();
  if (!/^[\x21-\x7e]+$/.test(key)) {
    throw new UsageError(
      "bad-auth-key",
      `${nameOf(source)} holds no auth key: it is one line without spaces`,
    );
  }
  return key;
}

async function textOf(source: SecretSource, stdio: Pick<Stdio, "stdin">): Promise<string> {
  switch (source.kind) {
    case "literal":
      return source.secret;
    case "file": {
      const text = await readStateFile(source.path);
      if (text !== undefined) return text;
      throw new UsageError(
        "no-auth-key-file",
        `${source.path} is not there: give --auth-key file:PATH of a file`,
      );
    }
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
    case "stdin":
      return "standard input";
  }
}
