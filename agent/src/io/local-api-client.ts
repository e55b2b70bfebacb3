/** Asks the daemon on this machine, over its Unix socket. */
import { type IncomingMessage, request as httpRequest } from "node:http";
import { OperationError } from "../base/errors.ts";
import type { PingReply, PingRequest, UpEvent, UpRequest } from "../health/local-backend.ts";
import type { StatusJson } from "../health/status-json.ts";
import { codeOf } from "./system-error.ts";

/** Its methods throw OperationError: the daemon is not there, does not answer, or says what is wrong. */
export class LocalApiClient {
  readonly #path: string;

  /** @param path of the socket */
  constructor(path: string) {
    this.#path = path;
  }

  async status(): Promise<StatusJson> {
    return (await this.#askJson("GET", "/v1/status", undefined, ANSWER_WITHIN_MS)) as StatusJson;
  }

  async ping(request: PingRequest, signal?: AbortSignal): Promise<PingReply> {
    const within = request.timeoutMs + ANSWER_WITHIN_MS;
    return (await this.#askJson("POST", "/v1/ping", request, within, signal)) as PingReply;
  }

  async *up(request: UpRequest, signal?: AbortSignal): AsyncGenerator<UpEvent> {
    const within = request.timeoutMs === 0 ? 0 : request.timeoutMs + ANSWER_WITHIN_MS;
    const response = await this.#ask("POST", "/v1/up", request, within, signal);
    for await (const line of linesOf(response)) yield JSON.parse(line) as UpEvent;
  }

  async down(): Promise<void> {
    await this.#askJson("POST", "/v1/down", {}, ANSWER_WITHIN_MS);
  }

  async logout(): Promise<void> {
    await this.#askJson("POST", "/v1/logout", {}, ANSWER_WITHIN_MS);
  }

  async #askJson(
    method: string,
    url: string,
    body: unknown,
    within: number,
    signal?: AbortSignal,
  ): Promise<unknown> {
    return JSON.parse(await textOf(await this.#ask(method, url, body, within, signal)));
  }

  /** @param within ms of silence after which the daemon counts as stuck; 0 waits for ever */
  #ask(
    method: string,
    path: string,
    body: unknown,
    within: number,
    signal?: AbortSignal,
  ): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const options = { socketPath: this.#path, method, path, timeout: within, agent: false };
      const request = httpRequest(signal === undefined ? options : { ...options, signal });
      request.once("timeout", () => request.destroy(this.#silent(within)));
      request.once("error", (error) => reject(this.#refusal(error)));
      request.once("response", (response) => {
        if (response.statusCode === 200) return resolve(response);
        textOf(response).then((text) => reject(errorFrom(text)), reject);
      });
      request.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  #silent(within: number): OperationError {
    return new OperationError(
      "daemon-silent",
      `the daemon on ${this.#path} has not answered for ${within / 1000} s: restart it`,
    );
  }

  #refusal(error: Error): OperationError {
    if (error instanceof OperationError) return error;
    const code = codeOf(error);
    if (code === "EACCES" || code === "EPERM") {
      const remedy = "run the command as the user who runs the daemon, such as with sudo";
      return new OperationError("daemon-denied", `no permission to use ${this.#path}: ${remedy}`);
    }
    if (code === "ENOENT" || code === "ECONNREFUSED") {
      const remedy = "start it with `sallyport daemon`, or give --socket the path it listens on";
      return new OperationError("daemon-absent", `no daemon is running on ${this.#path}: ${remedy}`);
    }
    return new OperationError("daemon-lost", `lost the daemon on ${this.#path} (${code}): see its log`, {
      cause: error,
    });
  }
}

/** How long a daemon may take to answer what it knows. */
const ANSWER_WITHIN_MS = 10_000;

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
  if (rest !== "") yield rest;
}

function errorFrom(text: string): OperationError {
  const { code, message } = JSON.parse(text) as { code: string; message: string };
  return new OperationError(code, message);
}
