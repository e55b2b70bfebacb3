/** Requests and answers as values, between Node's servers and the services. */
import { createReadStream } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { pipeline } from "node:stream";

export interface HttpRequest {
  readonly method: string;
  /** As it was sent, not decoded. */
  readonly path: string;
  /** Without the question mark; as it was sent. */
  readonly query: string;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  /** Where it comes from. */
  readonly from: string;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | { readonly file: string };
}

/** More than any call needs. */
const MAX_BODY_BYTES = 1 << 20;

/** Undefined for a body that is too long. */
export async function readRequest(message: IncomingMessage): Promise<HttpRequest | undefined> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of message as AsyncIterable<Uint8Array>) {
    length += chunk.length;
    if (length > MAX_BODY_BYTES) return undefined;
    chunks.push(chunk);
  }
  const [path = "", query = ""] = (message.url ?? "/").split(/\?(.*)/s);
  const headers = Object.entries(message.headers).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, Array.isArray(value) ? value.join(",") : value] as const],
  );
  return {
    method: message.method ?? "GET",
    ...{ path, query },
    headers: Object.fromEntries(headers),
    body: Buffer.concat(chunks),
    from: (message.socket.remoteAddress ?? "").replace(/^::ffff:/, ""),
  };
}

/** What is not encoded as it should be stays as it is. */
export function decodedUri(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function writeAnswer(answer: HttpAnswer, response: ServerResponse): void {
  response.writeHead(answer.status, answer.headers);
  if (typeof answer.body === "string") response.end(answer.body);
  else pipeline(createReadStream(answer.body.file), response, () => {});
}
