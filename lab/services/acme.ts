/**
 * The directory of Let's Encrypt, under its own name: accounts, orders and proofs as RFC 8555 has them, and certificates of the
 * lab's authority, which everybody in the lab trusts. A name or address is certified only after its port 80 has shown the proof
 * (http-01, RFC 8738 for addresses), asked from the lab's internet: where a firewall keeps it closed there is no certificate.
 */
import { randomBytes } from "node:crypto";
import { get } from "node:http";
import { isIP, type Socket } from "node:net";
import type { Authority } from "./authority.ts";
import { readSigningRequest } from "./signing-request.ts";
import type { HttpAnswer, HttpRequest } from "./http.ts";
import { AcmeProblem, type AccountKey, readJws, type Signed } from "./acme-jws.ts";

export const ACME_HOST = "acme-v02.api.letsencrypt.org";

export interface AcmeOptions {
  readonly authority: Pick<Authority, "certify">;
  readonly resolve: (name: string) => readonly string[] | undefined;
  /** A TCP connection that comes from the internet. */
  readonly connect: (ip: string, port: number) => Socket;
  /** What clients call it. @default https and its own name */
  readonly origin?: string;
}

type OrderStatus = "pending" | "ready" | "valid" | "invalid";

interface Identifier {
  readonly type: "dns" | "ip";
  readonly value: string;
}

/** With its one authorization and that one's one challenge, which all have the order's number. */
interface Order {
  readonly id: string;
  readonly account: string;
  readonly identifier: Identifier;
  readonly profile: Profile;
  readonly token: string;
  status: OrderStatus;
  problem: AcmeProblem | undefined;
  certificate: string | undefined;
}

const DAY_MS = 86_400_000;
/** https://letsencrypt.org/docs/profiles/: 90 days and 160 hours; addresses get the second only. */
const LIFETIME_MS = { classic: 90 * DAY_MS, shortlived: 160 * 3_600_000 };
type Profile = keyof typeof LIFETIME_MS;
/** RFC 8555, 8.3. */
const PROOF_PORT = 80;
const PROOF_PATH = "/.well-known/acme-challenge/";
const PROOF_TIMEOUT_MS = 10_000;
const PROOF_LIMIT = 1024;

export class Acme {
  readonly #options: AcmeOptions;
  readonly #origin: string;
  readonly #nonces = new Set<string>();
  /** By the thumbprint of their key, which is their number, too. */
  readonly #accounts = new Map<string, AccountKey>();
  readonly #orders = new Map<string, Order>();

  constructor(options: AcmeOptions) {
    this.#options = options;
    this.#origin = options.origin ?? `https://${ACME_HOST}`;
  }

  async answer(request: HttpRequest): Promise<HttpAnswer> {
    try {
      if (request.method === "GET" && request.path === "/directory") return this.#directory();
      if (request.path === "/new-nonce") return this.#say(request.method === "HEAD" ? 200 : 204, "");
      if (request.method !== "POST") throw new AcmeProblem("malformed", "requests are POSTs", 405);
      return await this.#signed(request);
    } catch (error) {
      if (error instanceof AcmeProblem) return this.#say(error.status, error.body, PROBLEM);
      throw error;
    }
  }

  #directory(): HttpAnswer {
    const at = (path: string): string => `${this.#origin}/${path}`;
    return this.#say(200, {
      newNonce: at("new-nonce"),
      newAccount: at("new-account"),
      newOrder: at("new-order"),
      meta: {
        profiles: Object.fromEntries(Object.keys(LIFETIME_MS).map((name) => [name, at(`profiles/${name}`)])),
      },
    });
  }

  async #signed({ path, body }: HttpRequest): Promise<HttpAnswer> {
    const signed = readJws(body, (kid) => this.#accounts.get(lastPart(kid)));
    if (!this.#nonces.delete(signed.nonce))
      throw new AcmeProblem("badNonce", "this nonce is not one of ours");
    if (signed.url !== `${this.#origin}${path}`)
      throw new AcmeProblem("unauthorized", "signed for another URL");
    if (path === "/new-account") return this.#account(signed);
    if (signed.account === undefined) throw new AcmeProblem("malformed", "the request names no account");
    if (path === "/new-order") return this.#newOrder(signed);
    const [, kind = "", id = ""] = path.split("/");
    const order = this.#orders.get(id);
    if (order?.account !== lastPart(signed.account))
      throw new AcmeProblem("unauthorized", "no such order of yours");
    switch (kind) {
      case "order":
        return this.#say(200, this.#orderBody(order));
      case "authorization":
        return this.#say(200, this.#authorization(order));
      case "challenge":
        if (signed.payload !== undefined) await this.#prove(order, signed.key);
        return this.#say(200, this.#challenge(order), {
          Link: `<${this.#url("authorization", order)}>;rel="up"`,
        });
      case "finalize":
        return this.#finalize(order, signed);
      case "certificate":
        if (order.certificate === undefined) throw new AcmeProblem("malformed", "not issued yet", 404);
        return this.#say(200, order.certificate, { "Content-Type": "application/pem-certificate-chain" });
      default:
        throw new AcmeProblem("malformed", `there is no ${path}`, 404);
    }
  }

  #account({ key, payload = {} }: Signed): HttpAnswer {
    const known = this.#accounts.has(key.thumbprint);
    if (!known && payload["onlyReturnExisting"] === true) {
      throw new AcmeProblem("accountDoesNotExist", "there is no account with this key");
    }
    if (!known && payload["termsOfServiceAgreed"] !== true) {
      throw new AcmeProblem("userActionRequired", "the terms of service are not agreed to", 403);
    }
    this.#accounts.set(key.thumbprint, key);
    const Location = `${this.#origin}/account/${key.thumbprint}`;
    return this.#say(known ? 200 : 201, { status: "valid" }, { Location });
  }

  #newOrder({ payload = {}, account = "" }: Signed): HttpAnswer {
    const identifier = readIdentifier(payload["identifiers"]);
    const asked = payload["profile"] ?? "classic";
    if (asked !== "classic" && asked !== "shortlived") {
      throw new AcmeProblem("invalidProfile", `there is no such profile`);
    }
    if (identifier.type === "ip" && asked !== "shortlived") {
      throw new AcmeProblem("rejectedIdentifier", "addresses are certified in the profile shortlived only");
    }
    const order: Order = {
      ...{ id: randomBytes(8).toString("hex"), token: randomBytes(24).toString("base64url") },
      ...{ account: lastPart(account), identifier, profile: asked },
      ...{ status: "pending", problem: undefined, certificate: undefined },
    };
    this.#orders.set(order.id, order);
    return this.#say(201, this.#orderBody(order), { Location: this.#url("order", order) });
  }

  /** Looks before it answers, so nobody has to ask again. */
  async #prove(order: Order, key: AccountKey): Promise<void> {
    if (order.status !== "pending") return;
    const { identifier, token } = order;
    try {
      const ip = identifier.type === "ip" ? identifier.value : this.#options.resolve(identifier.value)?.[0];
      if (ip === undefined) throw new AcmeProblem("dns", `no address for ${identifier.value}`);
      const shown = await this.#fetch(ip, identifier.value, `${PROOF_PATH}${token}`);
      if (shown.trimEnd() !== `${token}.${key.thumbprint}`) {
        throw new AcmeProblem("unauthorized", `${identifier.value} shows another proof`, 403);
      }
      order.status = "ready";
    } catch (error) {
      const said = error instanceof Error ? error.message : String(error);
      order.problem =
        error instanceof AcmeProblem ? error : new AcmeProblem("connection", `${identifier.value}: ${said}`);
      order.status = "invalid";
    }
  }

  #fetch(ip: string, host: string, path: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const createConnection = (): Socket => this.#options.connect(ip, PROOF_PORT);
      const signal = AbortSignal.timeout(PROOF_TIMEOUT_MS);
      const request = get(
        { host, path, createConnection, signal, headers: { Connection: "close" } },
        (response) => {
          let text = "";
          response.setEncoding("utf8");
          response.on("data", (chunk: string) => {
            text += chunk;
            if (text.length > PROOF_LIMIT) request.destroy(new Error("the answer is too long"));
          });
          response.on("error", reject);
          response.on("end", () => {
            if (response.statusCode === 200) resolve(text);
            else reject(new Error(`it answers ${response.statusCode}`));
          });
        },
      );
      request.on("error", reject);
    });
  }

  /** For what was proven, whatever names the request has: its key and signature are what is taken from it. */
  #finalize(order: Order, { payload = {} }: Signed): HttpAnswer {
    if (order.status !== "ready") throw new AcmeProblem("orderNotReady", `the order is ${order.status}`, 403);
    const publicKey = readSigningRequest(Buffer.from(String(payload["csr"]), "base64url"));
    if (publicKey === undefined)
      throw new AcmeProblem("badCSR", "not a request with a signature of its own key");
    order.certificate = this.#options.authority.certify(
      order.identifier.value,
      publicKey,
      LIFETIME_MS[order.profile],
    );
    order.status = "valid";
    return this.#say(200, this.#orderBody(order), { Location: this.#url("order", order) });
  }

  #orderBody(order: Order): object {
    const { status, identifier, certificate, problem } = order;
    return {
      status,
      identifiers: [identifier],
      authorizations: [this.#url("authorization", order)],
      finalize: this.#url("finalize", order),
      ...(certificate === undefined ? {} : { certificate: this.#url("certificate", order) }),
      ...(problem === undefined ? {} : { error: problem.body }),
    };
  }

  #authorization(order: Order): object {
    return {
      identifier: order.identifier,
      status: PROVEN[order.status],
      challenges: [this.#challenge(order)],
    };
  }

  #challenge(order: Order): object {
    const { token, status, problem } = order;
    return {
      ...{ type: "http-01", url: this.#url("challenge", order), token, status: PROVEN[status] },
      ...(problem === undefined ? {} : { error: problem.body }),
    };
  }

  #url(kind: string, { id }: Order): string {
    return `${this.#origin}/${kind}/${id}`;
  }

  #say(status: number, body: object | string, headers: Readonly<Record<string, string>> = {}): HttpAnswer {
    const nonce = randomBytes(16).toString("base64url");
    this.#nonces.add(nonce);
    const json = typeof body === "string" ? {} : { "Content-Type": "application/json" };
    return {
      status,
      headers: { "Replay-Nonce": nonce, "Cache-Control": "no-store", ...json, ...headers },
      body: typeof body === "string" ? body : JSON.stringify(body),
    };
  }
}

const PROBLEM = { "Content-Type": "application/problem+json" };

/** The order's state → that of its authorization and challenge. */
const PROVEN: Readonly<Record<OrderStatus, string>> = {
  pending: "pending",
  ready: "valid",
  valid: "valid",
  invalid: "invalid",
};

const lastPart = (url: string): string => url.slice(url.lastIndexOf("/") + 1);

function readIdentifier(asked: unknown): Identifier {
  const [one, ...more] = Array.isArray(asked) ? (asked as readonly unknown[]) : [];
  const { type, value } = (typeof one === "object" && one !== null ? one : {}) as Record<string, unknown>;
  if (typeof value !== "string" || more.length > 0 || (type !== "dns" && type !== "ip")) {
    throw new AcmeProblem("unsupportedIdentifier", "the lab certifies one name or address at a time");
  }
  if ((type === "ip") !== (isIP(value) !== 0)) throw new AcmeProblem("malformed", `${value} is no ${type}`);
  return { type, value };
}
