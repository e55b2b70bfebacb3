/** Asks a process on this machine over its Unix socket, as `json-api-server.ts` answers. */
import { type IncomingMessage, request as httpRequest } from "node:http";
import { OperationError } from "../base/errors.ts";
import { type Millis, seconds } from "../base/time.ts";
import { codeOf } from "./system-error.ts";

export interface Question {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly body?: unknown;
  /** After so much silence the process counts as stuck; 0 waits for ever. @default 10 s */
  readonly within?: Millis;
  readonly signal?: AbortSignal | undefined;
}

/** Who serves a socket, for errors. */
export interface Server {
  /** Such as "daemon". */
  readonly name: string;
  /** The command that starts it, such as "sallyport daemon". */
  readonly command: string;
}

/** Its methods throw OperationError: nobody is there, or does not answer, or says what is wrong. */
export class JsonApiClient {
  readonly #socket: string;
  readonly #server: Server;
  readonly #signal: AbortSignal | undefined;

  /** @param signal takes every question back */
  constructor(socket: string, server: Server, signal?: AbortSignal) {
    this.#socket = socket;
    this.#server = server;
    this.#signal = signal;
  }

  async ask(question: Question): Promise<unknown> {
    return this.#read(await textOf(await this.#send(question)));
  }

  async *askLines(question: Question): AsyncGenerator<unknown> {
    for await (const line of linesOf(await this.#send(question))) yield this.#read(line);
  }

  #send({
    method,
    path,
    body,
    within = ANSWER_WITHIN,
    signal = this.#signal,
  }: Question): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const options = { socketPath: this.#socket, method, path, timeout: within, agent: false };
      const request = httpRequest(signal === undefined ? options : { ...options, signal });
      request.once("timeout", () => request.destroy(this.#silent(within)));
      request.once("error", (error) => reject(this.#refusal(error)));
      request.once("response", (response) => {
        if (response.statusCode === 200) return resolve(response);
        textOf(response)
          .then((text) => reject(errorFrom(this.#read(text))))
          .catch(reject);
      });
      request.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  #read(text: string): unknown {
    try {
      return JSON.parse(text);
    } catch (cause) {
      const { name } = this.#server;
      const message = `the answer of the ${name} can not be read: use the command and the ${name} of one version`;
      throw new OperationError("unreadable-answer", message, { cause });
    }
  }

  #silent(within: Millis): OperationError {
    const wait = `${within / 1000} s`;
    const message = `the ${this.#server.name} on ${this.#socket} has not answered for ${wait}: restart it`;
    return new OperationError("no-answer", message);
  }

  #refusal(error: Error): OperationError {
    if (error instanceof OperationError) return error;
    const code = codeOf(error);
    if (code === "EACCES" || code === "EPERM") {
      const remedy = `run the command as the user who runs the ${this.#server.name}, such as with sudo`;
      return new OperationError("no-permission", `no permission to use ${this.#socket}: ${remedy}`);
    }
    if (code === "ENOENT" || code === "ECONNREFUSED") {
      const remedy = `start it with \`${this.#server.command}\`, or give --socket the path it listens on`;
      return new OperationError(
        "not-running",
        `no ${this.#server.name} is running on ${this.#socket}: ${remedy}`,
      );
    }
    const message = `lost the ${this.#server.name} on ${this.#socket} (${code}): its log says why`;
    return new OperationError("connection-lost", message, { cause: error });
  }
}

/** How long a process may take to answer what it knows. */
export const ANSWER_WITHIN: Millis = seconds(10);

async function textOf(response: IncomingMessage): Promise<string> {
  let text = "";
  response.setEncoding("utf8");
  for await (const chunk of response) text += String(chunk);
  return text;
}

async function* linesOf(response: IncomingMessage): AsyncGenerator<string> {
  let rest = "";
  response.setEncoding("utf8");
  for await (const chunk of response) {
    const lines = (rest + String(chunk)).split("\n");
    rest = lines.pop() ?? "";
    yield* lines.filter((line) => line !== "");
  }
}

function errorFrom(answer: unknown): OperationError {
  const { code, message } = answer as { readonly code: string; readonly message: string };
  return new OperationError(code, message);
}
