/**
 * `sallyport fleet --web`: one page, and the fleet as server-sent events while somebody looks at it.
 *
 *   GET /            the page; with ?token=… it sets the cookie and comes back without
 *   GET /events      text/event-stream: "fleet" (a FleetView) after each reading, "trouble" when none was possible
 *   GET /fleet.json  the same once
 *
 * The page asks nobody else (its policy forbids it). On a loopback address whoever is on this machine may look; a name that
 * somebody led here (DNS rebinding) may not. Any other address needs the token.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { networkInterfaces } from "node:os";
import { Ip } from "../base/address.ts";
import type { Millis } from "../base/time.ts";
import type { Fleet } from "../health/fleet.ts";
import { FleetHistory } from "../health/fleet-history.ts";
import { listenTcp, type TcpListener } from "./listen.ts";
import type { Interfaces } from "./local-addresses.ts";

export interface FleetWebOptions {
  readonly host: string;
  readonly port: number;
  /** A secret. undefined: one is made where it is needed. */
  readonly token: string | undefined;
  readonly interval: Millis;
  readonly read: () => Promise<Fleet>;
}

export interface FleetWeb {
  /** For people: one for each address that leads here, with the token where one is needed. */
  readonly urls: readonly [string, ...string[]];
  close(): Promise<void>;
}

/** As bin/build.mjs puts it into the bundle; elsewhere it is read from its file. */
declare const SALLYPORT_FLEET_PAGE: string | undefined;

/** @throws OperationError when it can not listen there */
export async function startFleetWeb(options: FleetWebOptions): Promise<FleetWeb> {
  const page =
    typeof SALLYPORT_FLEET_PAGE === "string"
      ? SALLYPORT_FLEET_PAGE
      : readFileSync(new URL("./fleet-page.html", import.meta.url), "utf8");
  const needsToken = !isLoopback(options.host);
  const token = needsToken ? (options.token ?? randomBytes(24).toString("base64url")) : undefined;
  const server = new FleetWebServer(page, token, options);
  const listener = await server.listen();
  const { ip, port } = listener.address;
  const urlOf = (at: Ip): string =>
    `http://${at.isV4 ? at.text : `[${at.text}]`}:${port}/${token === undefined ? "" : `?token=${token}`}`;
  const [first, ...others] = addressesBehind(ip);
  return {
    urls: [urlOf(first), ...others.map(urlOf)],
    async close() {
      server.stop();
      await listener.close();
    },
  };
}

/** Of all of this machine's addresses those that others may come by: a tunnel's too, a link's own not. */
export function addressesBehind(bound: Ip, interfaces: Interfaces = networkInterfaces()): [Ip, ...Ip[]] {
  if (!bound.isUnspecified) return [bound];
  const all = Object.values(interfaces)
    .flatMap((addresses = []) => addresses)
    .flatMap(({ address, internal }) => (internal ? [] : (Ip.tryParse(address) ?? [])))
    .filter((ip) => !ip.isLinkLocal && (ip.isV4 || !bound.isV4));
  const [first = Ip.parse(bound.isV4 ? "127.0.0.1" : "::1"), ...others] = all;
  return [first, ...others];
}

const COOKIE = "sallyport-fleet";
/** So that a proxy does not take a quiet stream for a dead one. */
const PING_EVERY_MS = 20_000;

class FleetWebServer {
  readonly #page: string;
  readonly #token: string | undefined;
  readonly #options: FleetWebOptions;
  readonly #policy: string;
  readonly #history = new FleetHistory();
  readonly #viewers = new Set<ServerResponse>();
  readonly #pings: NodeJS.Timeout;
  #timer: NodeJS.Timeout | undefined;
  #reading = false;
  #trouble: string | undefined;

  constructor(page: string, token: string | undefined, options: FleetWebOptions) {
    [this.#page, this.#token, this.#options] = [page, token, options];
    this.#policy = policyOf(page);
    this.#pings = setInterval(() => this.#send(": still here\n\n"), PING_EVERY_MS).unref();
  }

  async listen(): Promise<TcpListener> {
    const server = createServer((request, response) => this.#handle(request, response));
    return await listenTcp(server, this.#options.host, this.#options.port);
  }

  stop(): void {
    clearInterval(this.#pings);
    clearTimeout(this.#timer);
    for (const viewer of this.#viewers) viewer.end();
    this.#viewers.clear();
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
    response.setHeader("content-security-policy", this.#policy);
    if (request.method !== "GET") return refuse(response, 405, "only GET");
    if (this.#token === undefined && !isLocalName(request.headers.host)) {
      return refuse(
        response,
        403,
        "this page is for localhost: give --listen an address of this machine for others",
      );
    }
    // Not `new URL`, which throws at what a client may send, such as "//".
    const [path = "/", query = ""] = (request.url ?? "/").split(/\?(.*)/s);
    const given = new URLSearchParams(query).get("token");
    if (given !== null && this.#matches(given)) return this.#welcome(response, given);
    if (!this.#isKnown(request))
      return refuse(response, 401, "open the address that `sallyport fleet --web` printed");
    this.#answer(path, response);
  }

  #answer(path: string, response: ServerResponse): void {
    switch (path) {
      case "/":
        response.setHeader("content-type", "text/html; charset=utf-8");
        response.end(this.#page);
        return;
      case "/events":
        return this.#follow(response);
      case "/fleet.json":
        response.setHeader("content-type", "application/json");
        response.end(JSON.stringify(this.#history.view ?? {}));
        return;
      default:
        refuse(response, 404, "not here");
    }
  }

  /** The address with the token is not kept in the browser's history. */
  #welcome(response: ServerResponse, token: string): void {
    if (this.#token !== undefined) {
      response.setHeader("set-cookie", `${COOKIE}=${token}; HttpOnly; SameSite=Strict; Path=/`);
    }
    response.writeHead(303, { location: "/" }).end();
  }

  #isKnown({ headers }: IncomingMessage): boolean {
    if (this.#token === undefined) return true;
    const cookies = (headers.cookie ?? "").split(";").map((cookie) => cookie.trim().split("="));
    const [, cookie = ""] = cookies.find(([name]) => name === COOKIE) ?? [];
    const [, bearer = ""] = /^Bearer (\S+)$/.exec(headers.authorization ?? "") ?? [];
    return this.#matches(cookie) || this.#matches(bearer);
  }

  #matches(given: string): boolean {
    if (this.#token === undefined) return true;
    return timingSafeEqual(sha256(given), sha256(this.#token));
  }

  #follow(response: ServerResponse): void {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write("retry: 3000\n\n");
    this.#viewers.add(response);
    response.on("close", () => this.#viewers.delete(response));
    if (this.#history.view !== undefined) response.write(eventOf("fleet", this.#history.view));
    if (this.#trouble !== undefined) response.write(eventOf("trouble", { message: this.#trouble }));
    if (this.#timer === undefined) void this.#look();
  }

  /** Reads again and again while somebody looks, and not otherwise: each reading is a call for each region. */
  async #look(): Promise<void> {
    if (this.#reading) return;
    this.#reading = true;
    try {
      this.#history.handle(await this.#options.read());
      this.#trouble = undefined;
      this.#send(eventOf("fleet", this.#history.view));
    } catch (error) {
      this.#trouble = error instanceof Error ? error.message : String(error);
      this.#send(eventOf("trouble", { message: this.#trouble }));
    }
    this.#reading = false;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.#viewers.size > 0) void this.#look();
    }, this.#options.interval);
  }

  #send(text: string): void {
    for (const viewer of this.#viewers) viewer.write(text);
  }
}

const HEADERS = {
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cache-control": "no-store",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
};

/** Only the page's own script and style run, and it talks to this server alone. */
function policyOf(page: string): string {
  const hashes = (tag: string): string =>
    [...page.matchAll(new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`, "g"))]
      .map(([, text = ""]) => `'sha256-${sha256(text).toString("base64")}'`)
      .join(" ");
  return [
    "default-src 'none'",
    `script-src ${hashes("script")}`,
    `style-src ${hashes("style")}`,
    "connect-src 'self'",
    ...[
      "base-uri 'none'",
      "form-action 'none'",
      "frame-ancestors 'none'",
      "require-trusted-types-for 'script'",
    ],
  ].join("; ");
}

function eventOf(event: string, data: unknown): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

function refuse(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(`${text}\n`);
}

function isLoopback(host: string): boolean {
  return host === "localhost" || Ip.tryParse(host)?.isLoopback === true;
}

function isLocalName(host: string | undefined): boolean {
  return isLoopback((host ?? "").replace(/:\d+$/, "").replace(/^\[|\]$/g, ""));
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
