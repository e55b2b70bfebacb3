/** Asks the coordination server on this machine, as an administrator. */
import type { NodeSummary } from "../engine/coordination.ts";
import { JsonApiClient } from "./json-api-client.ts";

export interface AuthKeyRequest {
  readonly reusable?: boolean | undefined;
  readonly tags?: readonly string[] | undefined;
  readonly ephemeral?: boolean | undefined;
  /** @default never */
  readonly expirySeconds?: number | undefined;
  readonly user?: string | undefined;
}

/** Its methods throw OperationError, as those of JsonApiClient. */
export class ControlAdminClient {
  readonly #api: JsonApiClient;

  /** @param path of the socket */
  constructor(path: string) {
    this.#api = new JsonApiClient(path, { name: "coordination server", command: "sallyport control" });
  }

  /** The key's text is told this once. */
  async createAuthKey(request: AuthKeyRequest): Promise<{ readonly id: string; readonly key: string }> {
    const answer = await this.#api.ask({ method: "POST", path: "/auth-keys", body: request });
    return answer as { id: string; key: string };
  }

  async deleteAuthKey(id: string): Promise<void> {
    await this.#api.ask({ method: "DELETE", path: `/auth-keys/${encodeURIComponent(id)}` });
  }

  async nodes(): Promise<readonly NodeSummary[]> {
    return (await this.#api.ask({ method: "GET", path: "/nodes" })) as readonly NodeSummary[];
  }

  async deleteNode(id: number): Promise<void> {
    await this.#api.ask({ method: "DELETE", path: `/nodes/${id}` });
  }

  async approveRoutes(id: number, routes: readonly string[]): Promise<void> {
    await this.#api.ask({ method: "POST", path: `/nodes/${id}/routes`, body: { routes } });
  }

  async setDerpMap(derpMap: unknown): Promise<void> {
    await this.#api.ask({ method: "POST", path: "/derp-map", body: derpMap });
  }
}
