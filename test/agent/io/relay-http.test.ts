import { createServer, type Server } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { DerpServer } from "../../../agent/src/core/derp/server.ts";
import { silentLog } from "../../../agent/src/base/log.ts";
import { nodeSuite } from "../../../agent/src/io/node-suite.ts";
import { systemRandom } from "../../../agent/src/io/random.ts";
import { attachRelay, type AttachedRelay } from "../../../agent/src/io/relay-server.ts";
import { hex, vectors } from "../../vectors/load.ts";
import { framesOf, keyOf } from "../core/derp/support.ts";

interface Exchange {
  readonly name: string;
  readonly request: string;
  readonly response_hex: string;
  readonly response_text_if_http: string;
}
const { exchanges, fast_start_client_info_frame } = vectors<{
  readonly exchanges: readonly Exchange[];
  readonly fast_start_client_info_frame: string;
}>("derp-http.json");

let server: Server;
let relay: AttachedRelay;
beforeEach(async () => {
  server = createServer();
  const derp = new DerpServer({ suite: nodeSuite, random: systemRandom, serverKey: keyOf("server") });
  relay = attachRelay({ server, derp, log: silentLog, shared: false });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});
afterEach(async () => {
  relay.close();
  await new Promise((resolve) => server.close(resolve).closeAllConnections());
});

/** Sends bytes and reads until the server has said `enough`, or ended. */
function exchange(request: string | Uint8Array, enough: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let got: Buffer = Buffer.alloc(0);
    const socket = connect((server.address() as AddressInfo).port, "127.0.0.1", () => socket.write(request));
    const done = (): void => {
      socket.destroy();
      resolve(got);
    };
    socket.on("data", (chunk) => {
      got = Buffer.concat([got, chunk]);
      if (got.length >= enough) done();
    });
    socket.on("end", done).on("error", reject);
  });
}

/** Status line, headers in any order without the date, body. */
function parts(response: Buffer): object {
  const [head = "", body] = response.toString("latin1").split("\r\n\r\n", 2);
  const [status, ...headers] = head.split("\r\n");
  return { status, headers: headers.filter((line) => !line.startsWith("Date:")).toSorted(), body };
}

const speaksDerp = ({ response_text_if_http: text }: Exchange) => text === "" || text.includes(" 101 ");

test.each(exchanges.filter((v) => !speaksDerp(v)))("answered as published: $name", async (v) => {
  const want = Buffer.from(v.response_hex, "hex");
  expect(parts(await exchange(v.request, Infinity))).toEqual(parts(want));
});

test.each(exchanges.filter(speaksDerp))("answered byte for byte: $name", async (v) => {
  const want = Buffer.from(v.response_hex, "hex");
  const got = await exchange(v.request, want.length);
  expect(got.toString("hex")).toBe(v.response_hex);
  expect(got.toString("latin1").startsWith(v.response_text_if_http)).toBe(true);
});

test("a login in the same segment as the request is answered with the server info", async () => {
  const request = exchanges.find((v) => v.name.startsWith("fast start"))?.request ?? "";
  const bytes = Buffer.concat([Buffer.from(request), hex(fast_start_client_info_frame)]);
  const got = await exchange(bytes, 45 + 58);
  expect(framesOf(got)).toMatchObject([{ kind: "server-key" }, { kind: "server-info" }]);
});

const get = (path: string, ...headers: string[]): string =>
  [`GET ${path} HTTP/1.1`, "Host: x", ...headers, "", ""].join("\r\n");

test.each([
  { name: "an unknown path", request: get("/nothing", "Connection: close"), want: "404 Not Found" },
  { name: "the home page", request: get("/", "Connection: close"), want: "200 OK" },
  { name: "robots.txt", request: get("/robots.txt", "Connection: close"), want: "200 OK" },
  {
    name: "latency-check with a query",
    request: get("/derp/latency-check?x", "Connection: close"),
    want: "200 OK",
  },
  {
    name: "an upgrade to something else",
    request: get("/derp", "Connection: Upgrade", "Upgrade: h2c"),
    want: "426 Upgrade Required",
  },
  {
    name: "DERP in WebSocket messages",
    request: get("/derp", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Protocol: derp"),
    want: "426 Upgrade Required",
  },
  {
    name: "a probe that offers an upgrade",
    request: get("/derp/probe", "Connection: Upgrade", "Upgrade: h2c"),
    want: "200 OK",
  },
  {
    name: "an unknown path with an upgrade",
    request: get("/ts2021", "Connection: Upgrade", "Upgrade: other"),
    want: "404 Not Found",
  },
])("$name: $want", async ({ request, want }) => {
  expect((await exchange(request, Infinity)).toString("latin1")).toMatch(new RegExp(`^HTTP/1.1 ${want}\r\n`));
});

test("on a shared server the other paths are left to the other handler", async () => {
  relay.close();
  const derp = new DerpServer({ suite: nodeSuite, random: systemRandom, serverKey: keyOf("server") });
  relay = attachRelay({ server, derp, log: silentLog, shared: true });
  server.on("request", (request, response) => {
    if (request.url === "/key") response.end("mine");
  });
  server.on("upgrade", (request, socket) => {
    if (request.url === "/ts2021") socket.end("HTTP/1.1 101 Mine\r\n\r\n");
  });
  expect((await exchange(get("/key", "Connection: close"), Infinity)).toString()).toContain("mine");
  expect(
    (await exchange(get("/ts2021", "Connection: Upgrade", "Upgrade: x"), Infinity)).toString(),
  ).toContain("101 Mine");
  expect((await exchange(get("/derp/probe", "Connection: close"), Infinity)).toString()).toContain("200 OK");
});
