/** The relay's own key: `{"PrivateKey":"privkey:…"}`, the form of derper's -c file, so that a relay may move here and back. */
import { randomBytes } from "node:crypto";
import { OperationError } from "../base/errors.ts";
import { clampPrivateKey, formatPrivateKey, KEY_LENGTH, NodePrivate, parsePrivateKey } from "../base/keys.ts";
import { readStateFile, writeFileAtomic } from "./state-store.ts";

/** Makes the key where there is none yet. @throws OperationError where the file holds something else */
export async function loadRelayKey(path: string): Promise<NodePrivate> {
  const text = await readStateFile(path);
  if (text !== undefined) return parseKeyFile(path, text);
  const key = new NodePrivate(clampPrivateKey(randomBytes(KEY_LENGTH)));
  await writeFileAtomic(path, `${JSON.stringify({ PrivateKey: formatPrivateKey(key) }, undefined, 2)}\n`);
  return key;
}

function parseKeyFile(path: string, text: string): NodePrivate {
  try {
    const json: unknown = JSON.parse(text);
    const hasKey = typeof json === "object" && json !== null && "PrivateKey" in json;
    if (!hasKey || typeof json.PrivateKey !== "string") throw new Error("no key");
    return new NodePrivate(parsePrivateKey(json.PrivateKey));
  } catch {
    // No cause: a JSON error quotes the text around the fault, which may be the key.
    throw new OperationError(
      "state-corrupt",
      `${path} holds no relay key and was left as it is: restore it from a backup, or remove it to get a new key`,
    );
  }
}
