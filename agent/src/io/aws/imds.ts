/**
 * What the instance's metadata service says, by its version 2: a token is asked for, and every question carries it.
 * https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
 *
 * Where it fails it says which of the known causes it is, since each has another remedy: no EC2 instance, switched off, or
 * answers that die on the way because of the hop limit (this process runs in a container).
 */
import { OperationError } from "../../base/errors.ts";

export interface ImdsOptions {
  /** @default AWS_EC2_METADATA_SERVICE_ENDPOINT, as for the SDK, or the link-local address */
  readonly endpoint?: string | undefined;
  /** Of one request. @default 2,000 ms */
  readonly timeoutMs?: number;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

export type ImdsCode = "imds-off" | "imds-hop-limit" | "imds-unreachable" | "imds-missing" | "imds-failed";

const DEFAULT_ENDPOINT = "http://169.254.169.254";
const TIMEOUT_MS = 2_000;
/** Six hours, the longest there is. */
const TOKEN_SECONDS = 21_600;

export class Imds {
  readonly #base: string;
  readonly #timeoutMs: number;
  readonly #disabled: boolean;
  #token: Promise<string> | undefined;

  constructor({ env = process.env, endpoint, timeoutMs = TIMEOUT_MS }: ImdsOptions = {}) {
    this.#base = endpoint ?? env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] ?? DEFAULT_ENDPOINT;
    this.#timeoutMs = timeoutMs;
    this.#disabled = env["AWS_EC2_METADATA_DISABLED"]?.toLowerCase() === "true";
  }

  /** @throws OperationError with a code of ImdsCode; "imds-missing" when there is no such entry */
  async get(path: string): Promise<string> {
    const text = await this.find(path);
    if (text !== undefined) return text;
    throw failure("imds-missing", `the instance's metadata has no ${path}`);
  }

  /** As `get`, and undefined when there is no such entry. `path` is below /latest/meta-data/. */
  async find(path: string): Promise<string | undefined> {
    let response = await this.#ask(path);
    // The token may have expired, or be of the instance that this image was made on.
    if (response.status === 401) {
      this.#token = undefined;
      response = await this.#ask(path);
    }
    if (response.status === 404) return undefined;
    if (response.ok) return (await response.text()).trim();
    throw failure("imds-failed", `the instance's metadata answers ${path} with ${response.status}`);
  }

  /** Such as "i-0123456789abcdef0". */
  async instanceId(): Promise<string> {
    return await this.get("instance-id");
  }

  /** Such as "eu-central-1". */
  async region(): Promise<string> {
    return await this.get("placement/region");
  }

  /** The interfaces' addresses; what is known of one lies under `network/interfaces/macs/<mac>/`. */
  async macs(): Promise<readonly string[]> {
    const text = await this.get("network/interfaces/macs/");
    return text.split("\n").map((line) => line.trim().replace(/\/$/, ""));
  }

  async #ask(path: string): Promise<Response> {
    const headers = { "x-aws-ec2-metadata-token": await this.#currentToken() };
    try {
      return await this.#request(`/latest/meta-data/${path}`, { headers });
    } catch (cause) {
      throw unreachable(this.#base, cause);
    }
  }

  async #currentToken(): Promise<string> {
    this.#token ??= this.#askToken();
    try {
      return await this.#token;
    } catch (error) {
      this.#token = undefined;
      throw error;
    }
  }

  async #askToken(): Promise<string> {
    if (this.#disabled) {
      throw failure(
        "imds-off",
        "AWS_EC2_METADATA_DISABLED is true: take it away to ask the instance's metadata",
      );
    }
    const headers = { "x-aws-ec2-metadata-token-ttl-seconds": String(TOKEN_SECONDS) };
    let response: Response;
    try {
      response = await this.#request("/latest/api/token", { method: "PUT", headers });
    } catch (cause) {
      throw await this.#diagnose(cause);
    }
    if (response.ok) return await response.text();
    if (response.status === 403) {
      throw failure("imds-off", "the instance's metadata service is off: enable it (HttpEndpoint: enabled)");
    }
    throw failure("imds-failed", `the instance's metadata service gives no token (${response.status})`);
  }

  /** Only the answer that carries the token has the hop limit: where others arrive, it is that. */
  async #diagnose(cause: unknown): Promise<OperationError> {
    if (!isTimeout(cause)) return unreachable(this.#base, cause);
    try {
      await this.#request("/latest/meta-data/", {});
    } catch {
      return unreachable(this.#base, cause);
    }
    const message =
      "the token of the instance's metadata does not arrive: raise its hop limit (HttpPutResponseHopLimit) to 2, or run this outside of the container";
    return failure("imds-hop-limit", message);
  }

  async #request(path: string, init: RequestInit): Promise<Response> {
    return await fetch(new URL(path, this.#base), { ...init, signal: AbortSignal.timeout(this.#timeoutMs) });
  }
}

function unreachable(base: string, cause: unknown): OperationError {
  const message = `${base}: the instance's metadata service can not be reached: this works on an EC2 instance`;
  return new OperationError("imds-unreachable" satisfies ImdsCode, message, { cause });
}

function failure(code: ImdsCode, message: string): OperationError {
  return new OperationError(code, message);
}

function isTimeout(error: unknown): boolean {
  return typeof error === "object" && error !== null && "name" in error && error.name === "TimeoutError";
}
