import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "../../../agent/src/base/log.ts";
import { JsonApiClient } from "../../../agent/src/io/json-api-client.ts";
import { type Route, serveJsonApi } from "../../../agent/src/io/json-api-server.ts";

const folder = mkdtempSync(join(tmpdir(), "json-api-"));
const server = { name: "daemon", command: "sallyport daemon" };
const echo: Route = (body, { parameters }) => ({ body, parameters });
let leaving: Promise<unknown> | undefined;
/** Says one thing, and then nothing until the one who asked has gone. */
const wait: Route = (_, { gone }) => {
  leaving = new Promise((resolve) => gone.addEventListener("abort", resolve));
  return (async function* () {
    yield "begun";
    await leaving;
  })();
};
const routes = { "POST /nodes/:id": echo, "DELETE /nodes/:id/routes/:route": echo, "GET /wait": wait };
let sockets = 0;

afterAll(() => rmSync(folder, { recursive: true }));

async function serving(use: (client: JsonApiClient) => Promise<void>, bodyLimit?: number): Promise<void> {
  const path = join(folder, `${++sockets}.sock`);
  const limit = bodyLimit === undefined ? {} : { bodyLimit };
  const api = await serveJsonApi({ path, role: "daemon", routes, ...limit, log: silentLog });
  try {
    await use(new JsonApiClient(path, server));
  } finally {
    await api.close();
  }
}

test("a route hears what stands in the places of its parameters, in their order", async () => {
  await serving(async (client) => {
    const one = await client.ask({ method: "POST", path: "/nodes/7", body: "x" });
    expect(one).toEqual({ body: "x", parameters: ["7"] });
    const two = await client.ask({ method: "DELETE", path: "/nodes/7/routes/a" });
    expect(two).toEqual({ parameters: ["7", "a"] });
  });
});

test.each([
  ["POST", "/nodes"],
  ["POST", "/nodes/7/more"],
  ["DELETE", "/nodes/7"],
  ["POST", "/other/7"],
] as const)("%s %s is no route", async (method, path) => {
  await serving(async (client) => {
    await expect(client.ask({ method, path })).rejects.toMatchObject({ code: "unknown-request" });
  });
});

test("a route hears that the one who asked has gone", async () => {
  await serving(async (client) => {
    const interrupt = new AbortController();
    const question = { method: "GET", path: "/wait", signal: interrupt.signal } as const;
    await expect(
      (async () => {
        for await (const line of client.askLines(question)) {
          expect(line).toBe("begun");
          interrupt.abort();
        }
      })(),
    ).rejects.toThrow();
    await leaving;
  });
});

test("each API says how long a body may be", async () => {
  const question = { method: "POST", path: "/nodes/7", body: "x".repeat(70_000) } as const;
  await serving(async (client) => {
    await expect(client.ask(question)).rejects.toMatchObject({ code: "request-too-large" });
  });
  await serving(async (client) => {
    expect(await client.ask(question)).toMatchObject({ parameters: ["7"] });
  }, 100_000);
});

test.each([200, 500])("an answer of status %i that is not JSON is told", async (status) => {
  const path = join(folder, `${++sockets}.sock`);
  const other = createServer((_request, response) => response.writeHead(status).end("<html>"));
  await new Promise<void>((resolve) => other.listen(path, resolve));
  const answer = new JsonApiClient(path, server).ask({ method: "GET", path: "/nodes" });
  await expect(answer).rejects.toMatchObject({ code: "unreadable-answer" });
  await new Promise((resolve) => other.close(resolve).closeAllConnections());
});
