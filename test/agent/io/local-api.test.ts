import { existsSync, linkSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { OperationError, UsageError } from "../../../agent/src/base/errors.ts";
import { silentLog } from "../../../agent/src/base/log.ts";
import type { LocalBackend, PingReply, UpEvent, UpRequest } from "../../../agent/src/health/local-backend.ts";
import { LocalApiClient } from "../../../agent/src/io/local-api-client.ts";
import { type LocalApiServer, serveLocalApi } from "../../../agent/src/io/local-api-server.ts";
import { emptyStatus } from "../cli/run.ts";

const folder = mkdtempSync(join(tmpdir(), "sallyport-api-"));
afterAll(() => rmSync(folder, { recursive: true }));

let sockets = 0;
const newPath = (): string => join(folder, `${sockets++}`, "agent.sock");

const pong: PingReply = {
  kind: "pong",
  name: "m2",
  ip: "100.64.9.2",
  via: { kind: "derp", code: "lab" },
  latencyMs: 1.5,
};
const running: UpEvent = { kind: "running", name: "m1", ips: ["100.64.9.1"] };

function fakeBackend(overrides: Partial<LocalBackend> = {}): LocalBackend {
  return {
    status: () => emptyStatus,
    ping: () => Promise.resolve(pong),
    netcheck: () => Promise.resolve(undefined),
    // oxlint-disable-next-line typescript/require-await
    async *up() {
      yield running;
    },
    set: () => Promise.resolve(),
    down: () => Promise.resolve(),
    logout: () => Promise.resolve(),
    ...overrides,
  };
}

async function serving<T>(
  backend: LocalBackend,
  use: (client: LocalApiClient, path: string) => Promise<T>,
): Promise<T> {
  const path = newPath();
  const server = await serveLocalApi({ path, backend, log: silentLog });
  try {
    return await use(new LocalApiClient(path), path);
  } finally {
    await server.close();
  }
}

test("every question reaches the daemon and its answer comes back", async () => {
  const asked: unknown[] = [];
  const backend = fakeBackend({
    ping: (request) => {
      asked.push(request);
      return Promise.resolve(pong);
    },
    down: () => Promise.resolve(void asked.push("down")),
    logout: () => Promise.resolve(void asked.push("logout")),
  });
  await serving(backend, async (client) => {
    expect(await client.status()).toEqual(emptyStatus);
    expect(await client.ping({ target: "m2", timeoutMs: 5000 })).toEqual(pong);
    await client.down();
    await client.logout();
  });
  expect(asked).toEqual([{ target: "m2", timeoutMs: 5000 }, "down", "logout"]);
});

const upRequest: UpRequest = {
  loginServer: undefined,
  authKey: "secret",
  hostname: undefined,
  advertiseExitNode: false,
  certPin: undefined,
  timeoutMs: 1000,
};

test("the events of up arrive one by one, while it goes on", async () => {
  let goOn = (): void => {};
  const backend = fakeBackend({
    async *up(request) {
      expect(request).toEqual(upRequest);
      yield { kind: "auth-url", url: "https://control.example/a" };
      await new Promise<void>((resolve) => (goOn = resolve));
      yield running;
    },
  });
  await serving(backend, async (client) => {
    const kinds: string[] = [];
    for await (const event of client.up(upRequest)) {
      kinds.push(event.kind);
      goOn();
    }
    expect(kinds).toEqual(["auth-url", "running"]);
  });
});

test("an up that breaks off tells why", async () => {
  const backend = fakeBackend({
    async *up() {
      yield await Promise.resolve(running);
      throw new OperationError("tun", "no permission for TUN: run as root");
    },
  });
  await serving(backend, async (client) => {
    const events: UpEvent[] = [];
    for await (const event of client.up(upRequest)) events.push(event);
    expect(events.at(-1)).toEqual({
      kind: "failed",
      code: "tun",
      message: "no permission for TUN: run as root",
    });
  });
});

test("what the daemon refuses is told with its code, what fails inside it is not", async () => {
  const refusing = fakeBackend({
    down: () => Promise.reject(new UsageError("no", "not now: wait a little")),
  });
  await serving(refusing, async (client) => {
    await expect(client.down()).rejects.toMatchObject({ code: "no", message: "not now: wait a little" });
  });
  const broken = fakeBackend({ status: () => (undefined as unknown as { x: () => never }).x() });
  await serving(broken, async (client) => {
    await expect(client.status()).rejects.toMatchObject({ code: "internal" });
    expect(await client.ping({ target: "m2", timeoutMs: 1 })).toEqual(pong);
  });
});

test.each([
  ["GET", "/v1/nothing", "", 404],
  ["GET", "/v1/ping", "", 404],
  ["GET", "/constructor", "", 404],
  ["POST", "/v1/ping", "{", 400],
  ["POST", "/v1/ping", "null", 400],
  ["POST", "/v1/ping", '{"target":"","timeoutMs":1}', 400],
  ["POST", "/v1/ping", '{"target":"m2","timeoutMs":-1}', 400],
  ["POST", "/v1/ping", '{"target":"m2","timeoutMs":1,"more":1}', 400],
  ["POST", "/v1/up", '{"authKey":7,"timeoutMs":1}', 400],
  ["POST", "/v1/ping", `"${"x".repeat(70_000)}"`, 400],
])("%#: %s %s is refused", async (method, path, body, status) => {
  await serving(fakeBackend(), async (_, socketPath) => {
    const answer = await raw(socketPath, method, path, body);
    expect(answer.status).toBe(status);
    expect(JSON.parse(answer.text)).toMatchObject({ code: expect.any(String), message: expect.any(String) });
  });
});

test("a malformed request is told by its place, never by its value", async () => {
  await serving(fakeBackend(), async (_, path) => {
    const answer = await raw(path, "POST", "/v1/up", '{"authKey":["hush"],"timeoutMs":1}');
    expect(answer.text).toContain("authKey");
    expect(answer.text).not.toContain("hush");
  });
});

test("only the owner may use the socket, and it is gone after the end", async () => {
  const path = await serving(fakeBackend(), async (_, socketPath) => {
    expect(statSync(socketPath).mode & 0o777).toBe(0o600);
    expect(statSync(join(socketPath, "..")).mode & 0o777).toBe(0o700);
    return await Promise.resolve(socketPath);
  });
  expect(existsSync(path)).toBe(false);
});

test("a second daemon on a socket is refused, and the first goes on", async () => {
  await serving(fakeBackend(), async (client, path) => {
    await expect(serveLocalApi({ path, backend: fakeBackend(), log: silentLog })).rejects.toThrow(
      `another daemon is already running on ${path}: stop it or give --socket another path`,
    );
    expect(await client.status()).toEqual(emptyStatus);
  });
});

test("the socket of a dead daemon is replaced", async () => {
  const path = newPath();
  const dead = await serveLocalApi({ path, backend: fakeBackend(), log: silentLog });
  await leaveBehind(path, dead);
  const server = await serveLocalApi({ path, backend: fakeBackend(), log: silentLog });
  expect(await new LocalApiClient(path).status()).toEqual(emptyStatus);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  await server.close();
});

test("a file in the socket's place is not removed", async () => {
  const path = join(folder, "file");
  writeFileSync(path, "precious");
  await expect(serveLocalApi({ path, backend: fakeBackend(), log: silentLog })).rejects.toThrow(
    "is not a socket",
  );
  expect(existsSync(path)).toBe(true);
});

test.each([
  [`/tmp/${"long".repeat(40)}/agent.sock`, "too long for a Unix socket"],
  [`${__filename}/agent.sock`, `can not listen on ${__filename}/agent.sock`],
])("%s can not be listened on", async (path, why) => {
  await expect(serveLocalApi({ path, backend: fakeBackend(), log: silentLog })).rejects.toThrow(why);
});

test("without a daemon the commands say how to start one", async () => {
  const path = newPath();
  await expect(new LocalApiClient(path).status()).rejects.toThrow(
    `no daemon is running on ${path}: start it with \`sallyport daemon\``,
  );
});

test("a daemon that goes away in the middle of an answer is told", async () => {
  const path = newPath();
  const backend = fakeBackend({ ping: () => new Promise(() => {}) });
  const server = await serveLocalApi({ path, backend, log: silentLog });
  const answer = new LocalApiClient(path).ping({ target: "m2", timeoutMs: 5000 });
  const refused = expect(answer).rejects.toThrow(`lost the daemon on ${path}`);
  await untilAsked(server);
  await refused;
});

test("a question can be taken back", async () => {
  const backend = fakeBackend({ ping: () => new Promise(() => {}) });
  await serving(backend, async (client) => {
    const controller = new AbortController();
    const answer = client.ping({ target: "m2", timeoutMs: 5000 }, controller.signal);
    controller.abort();
    await expect(answer).rejects.toBeInstanceOf(OperationError);
  });
});

/** A socket file that nobody listens on, as after a kill -9. */
async function leaveBehind(path: string, server: LocalApiServer): Promise<void> {
  await server.close();
  const plain = createServer();
  await new Promise<void>((resolve) => plain.listen(`${path}.2`, resolve));
  linkSync(`${path}.2`, path);
  await new Promise((resolve) => plain.close(resolve));
  expect(existsSync(path)).toBe(true);
}

async function untilAsked(server: LocalApiServer): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 20));
  await server.close();
}

function raw(
  socketPath: string,
  method: string,
  path: string,
  body: string,
): Promise<{ status: number | undefined; text: string }> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ socketPath, method, path, agent: false }, (response) => {
      let text = "";
      response.on("data", (chunk) => (text += String(chunk)));
      response.on("end", () => resolve({ status: response.statusCode, text }));
    });
    request.once("error", reject);
    request.end(body);
  });
}
