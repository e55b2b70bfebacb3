/** Asks the coordination server on this machine, over its Unix socket, as an administrator. */
import { request as httpRequest } from "node:http";
import { OperationError } from "../base/errors.ts";
import type { NodeSummary } from "../engine/coordination.ts";
import { codeOf } from "./system-error.ts";

export interface AuthKeyRequest {
  readonly reusable?: boolean | undefined;
  readonly tags?: readonly string[] | undefined;
  readonly ephemeral?: boolean | undefined;
  /** @default never */
  readonly expirySeconds?: number | undefined;
  readonly user?: string | undefined;
}

/** Its methods throw OperationError: the server is not there, or says what is wrong. */
export class ControlAdminClient {
  readonly #path: string;

  /** @param path of the socket */
  constructor(path: string) {
    this.#path = path;
  }

  /** The key's text is told this once. */
  async createAuthKey(request: AuthKeyRequest): Promise<{ readonly id: string; readonly key: string }> {
    return (await this.#ask("POST", "/auth-keys", request)) as { id: string; key: string };
  }

  async deleteAuthKey(id: string): Promise<void> {
    await this.#ask("DELETE", `/auth-keys/${encodeURIComponent(id)}`);
  }

  async nodes(): Promise<readonly NodeSummary[]> {
    return (await this.#ask("GET", "/nodes")) as readonly NodeSummary[];
  }

  async deleteNode(id: number): Promise<void> {
    await this.#ask("DELETE", `/nodes/${id}`);
  }

  async approveRoutes(id: number, routes: readonly string[]): Promise<void> {
    await this.#ask("POST", `/nodes/${id}/routes`, { routes });
  }

  async setDerpMap(derpMap: unknown): Promise<void> {
    await this.#ask("POST", "/derp-map", derpMap);
  }

  #ask(method: string, path: string, body?: unknown): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const request = httpRequest({
        socketPath: this.#path,
        method,
        path,
        timeout: ANSWER_WITHIN_MS,
        agent: false,
      });
      request.on("timeout", () => request.destroy(new Error("no answer")));
      request.on("error", (error) => reject(unreachable(this.#path, error)));
      request.on("response", (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (part: string) => (text += part));
        response.on("end", () => settle(response.statusCode ?? 0, text, resolve, reject));
      });
      request.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }
}

const ANSWER_WITHIN_MS = 10_000;

function settle(
  status: number,
  text: string,
  resolve: (answer: unknown) => void,
  reject: (error: Error) => void,
): void {
  try {
    const answer = JSON.parse(text) as { readonly code?: unknown; readonly message?: unknown };
    if (status === 200) resolve(answer);
    else reject(new OperationError(String(answer.code), String(answer.message)));
  } catch {
    reject(
      new OperationError(
        "control-answer",
        "the coordination server's answer can not be read: is it the same version?",
      ),
    );
  }
}

function unreachable(path: string, cause: unknown): OperationError {
  const message =
    codeOf(cause) === "EACCES"
      ? `no permission to use ${path}: run as the user the coordination server runs as`
      : `no coordination server answers at ${path}: start one with \`sallyport control\`, or give its --socket`;
  return new OperationError("control-not-running", message, { cause });
}
