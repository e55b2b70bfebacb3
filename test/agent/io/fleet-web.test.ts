import { request } from "node:http";
import { Ip } from "../../../agent/src/base/address.ts";
import { millis, seconds, wallTime } from "../../../agent/src/base/time.ts";
import { type Fleet, fleetOf } from "../../../agent/src/health/fleet.ts";
import { addressesBehind, type FleetWeb, startFleetWeb } from "../../../agent/src/io/fleet-web.ts";

const EMPTY = fleetOf({ at: wallTime(0), regions: ["eu-west-1"], instances: [], failures: [] });
const TOKEN = "0123456789abcdefghij";

let web: FleetWeb | undefined;
let reads: number;
let read: () => Promise<Fleet>;
beforeEach(() => {
  reads = 0;
  read = () => Promise.resolve(EMPTY);
});
afterEach(async () => {
  await web?.close();
  web = undefined;
});

async function start(host: string, token?: string): Promise<URL> {
  const counted = async (): Promise<Fleet> => {
    reads++;
    return await read();
  };
  web = await startFleetWeb({ host, port: 0, token, interval: millis(50), read: counted });
  const url = new URL(web.urls[0]);
  if (host === "0.0.0.0") url.hostname = "127.0.0.1";
  return url;
}

/** `fetch` would not send another Host, nor a path as it is written. */
function statusOf({ hostname, port }: URL, path: string, host = "localhost"): Promise<number> {
  return new Promise((resolve, reject) => {
    const asked = request({ hostname, port, path, headers: { host } }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    asked.on("error", reject).end();
  });
}

/** Reads the stream until `text` has come. */
async function follow(url: URL, text: string, headers: Record<string, string> = {}): Promise<string> {
  const response = await fetch(new URL("/events", url), { headers, signal: AbortSignal.timeout(seconds(5)) });
  expect(response.headers.get("content-type")).toBe("text/event-stream");
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let seen = "";
  while (!seen.includes(text)) seen += (await reader?.read())?.value ?? "";
  await reader?.cancel();
  return seen;
}

test("the page may run its own script and style, and ask this server alone", async () => {
  const response = await fetch(await start("127.0.0.1"));
  expect(response.status).toBe(200);
  const policy = response.headers.get("content-security-policy");
  expect(policy).toMatch(
    /^default-src 'none'; script-src 'sha256-[\w+/=]{44}'; style-src 'sha256-[\w+/=]{44}'; connect-src 'self'/,
  );
  expect(response.headers.get("x-content-type-options")).toBe("nosniff");
  expect(await response.text()).not.toMatch(/https?:\/\/|innerHTML|eval\(|document\.write/);
});

test("the fleet comes as events, again and again while somebody looks, and not when nobody does", async () => {
  const url = await start("127.0.0.1");
  await new Promise((resolve) => setTimeout(resolve, 150));
  expect(reads).toBe(0);
  const seen = await follow(url, "event: fleet");
  expect(seen).toContain(`"regions":["eu-west-1"]`);
  await new Promise((resolve) => setTimeout(resolve, 120));
  const before = reads;
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(reads).toBe(before);
});

test("a reading that fails is told, and the next one is tried", async () => {
  read = () => Promise.reject(new Error("no region answers"));
  const url = await start("127.0.0.1");
  expect(await follow(url, "event: trouble")).toContain("no region answers");
  read = () => Promise.resolve(EMPTY);
  await follow(url, "event: fleet");
});

test("on loopback a name that was led here is refused", async () => {
  const url = await start("127.0.0.1");
  expect(await statusOf(url, "/", `localhost:${url.port}`)).toBe(200);
  expect(await statusOf(url, "/", "evil.example")).toBe(403);
  expect(await statusOf(url, "/", "127.0.0.1.evil.example")).toBe(403);
});

test("any other address needs the token, which is turned into a cookie", async () => {
  const url = await start("0.0.0.0", TOKEN);
  expect(url.searchParams.get("token")).toBe(TOKEN);
  for (const path of ["/", "/events", "/fleet.json", "/?token=wrong"]) {
    expect((await fetch(new URL(path, url))).status).toBe(401);
  }
  const welcome = await fetch(url, { redirect: "manual" });
  expect([welcome.status, welcome.headers.get("location")]).toEqual([303, "/"]);
  const cookie = welcome.headers.get("set-cookie") ?? "";
  expect(cookie).toMatch(/; HttpOnly; SameSite=Strict; Path=\/$/);
  expect((await fetch(new URL("/", url), { headers: { cookie: cookie.split(";")[0] ?? "" } })).status).toBe(
    200,
  );
  await follow(url, "event: fleet", { authorization: `Bearer ${TOKEN}` });
});

test("a token that nobody gave is made, and is another each time", async () => {
  const first = (await start("0.0.0.0")).searchParams.get("token");
  await web?.close();
  const second = (await start("0.0.0.0")).searchParams.get("token");
  expect(first).toMatch(/^[\w-]{32}$/);
  expect(second).not.toBe(first);
});

test("other paths and methods are not there", async () => {
  const url = await start("127.0.0.1");
  expect((await fetch(new URL("/../etc/passwd", url))).status).toBe(404);
  expect((await fetch(url, { method: "POST" })).status).toBe(405);
});

test.each(["//", "//x:y/", "/\\\\", "http://[/", "/%", "/?token=%", "*"])(
  "the path %s of a stranger is refused as any other, and the page goes on",
  async (path) => {
    const url = await start("0.0.0.0", TOKEN);
    expect(await statusOf(url, path)).toBe(401);
    const known = { headers: { authorization: `Bearer ${TOKEN}` } };
    expect((await fetch(new URL("/", url), known)).status).toBe(200);
  },
);

test.each([
  ["0.0.0.0", ["192.0.2.4", "100.64.0.1"]],
  ["::", ["192.0.2.4", "2001:db8::4", "100.64.0.1"]],
  ["192.0.2.4", ["192.0.2.4"]],
  ["127.0.0.1", ["127.0.0.1"]],
])("who listens on %s is told the addresses that others can open", (bound, want) => {
  const interfaces = {
    lo: [
      { address: "127.0.0.1", internal: true },
      { address: "::1", internal: true },
    ],
    eth0: [
      { address: "192.0.2.4", internal: false },
      { address: "2001:db8::4", internal: false },
      { address: "fe80::4", internal: false },
    ],
    tailscale0: [{ address: "100.64.0.1", internal: false }],
  };
  expect(addressesBehind(Ip.parse(bound), interfaces).map(String)).toEqual(want);
});

test("a machine without a network has its loopback address", async () => {
  expect(addressesBehind(Ip.parse("0.0.0.0"), {}).map(String)).toEqual(["127.0.0.1"]);
  const { port } = await start("0.0.0.0", TOKEN);
  expect(web?.urls.join(" ")).not.toContain("0.0.0.0");
  expect(web?.urls.every((url) => url.endsWith(`:${port}/?token=${TOKEN}`))).toBe(true);
});
