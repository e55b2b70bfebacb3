/** Asks the daemon on this machine. */
import { millis, seconds } from "../base/time.ts";
import type { PingReply, PingRequest, PrefsRequest, UpEvent, UpRequest } from "../health/local-backend.ts";
import type { NetcheckReply } from "../health/netcheck-json.ts";
import type { StatusJson } from "../health/status-json.ts";
import { ANSWER_WITHIN, JsonApiClient } from "./json-api-client.ts";

/** A check takes at most five seconds. */
const NETCHECK_WITHIN = seconds(15);

/** Its methods throw OperationError, as those of JsonApiClient. */
export class LocalApiClient {
  readonly #api: JsonApiClient;

  /**
   * @param path of the socket
   * @param signal takes every question back
   */
  constructor(path: string, signal?: AbortSignal) {
    this.#api = new JsonApiClient(path, { name: "daemon", command: "sallyport daemon" }, signal);
  }

  async status(): Promise<StatusJson> {
    return (await this.#api.ask({ method: "GET", path: "/v1/status" })) as StatusJson;
  }

  async ping(request: PingRequest, signal?: AbortSignal): Promise<PingReply> {
    const within = millis(request.timeoutMs + ANSWER_WITHIN);
    const question = { method: "POST", path: "/v1/ping", body: request, within, signal } as const;
    return (await this.#api.ask(question)) as PingReply;
  }

  /** null where the tunnel is down. */
  async netcheck(): Promise<NetcheckReply | null> {
    const question = { method: "POST", path: "/v1/netcheck", within: NETCHECK_WITHIN } as const;
    return (await this.#api.ask(question)) as NetcheckReply | null;
  }

  async *up(request: UpRequest, signal?: AbortSignal): AsyncGenerator<UpEvent> {
    const within = millis(request.timeoutMs === 0 ? 0 : request.timeoutMs + ANSWER_WITHIN);
    const question = { method: "POST", path: "/v1/up", body: request, within, signal } as const;
    for await (const event of this.#api.askLines(question)) yield event as UpEvent;
  }

  async set(request: PrefsRequest): Promise<void> {
    await this.#api.ask({ method: "POST", path: "/v1/set", body: request });
  }

  async down(): Promise<void> {
    await this.#api.ask({ method: "POST", path: "/v1/down" });
  }

  async logout(): Promise<void> {
    await this.#api.ask({ method: "POST", path: "/v1/logout" });
  }
}
