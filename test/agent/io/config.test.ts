import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { agentConfig } from "../../../constructs/agent-user-data.ts";
import {
  agentConfigSchema,
  controlSettings,
  daemonSettings,
  readConfigFile,
  relaySettings,
} from "../../../agent/src/io/config.ts";
import { readSettings, type Settings } from "../../../agent/src/io/settings.ts";

const folder = mkdtempSync(join(tmpdir(), "sallyport-config-"));
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
function fileWith(content: unknown): string {
  const path = join(folder, `${files++}.json`);
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
  return path;
}

async function problemsOf(content: unknown): Promise<{ path: string; problems: readonly string[] }> {
  const path = fileWith(content);
  const problems: string[] = [];
  await readConfigFile(path, problems);
  return { path, problems };
}

test("a flag goes before a variable, a variable before the file", () => {
  const layers = {
    flags: { hostname: "flag" },
    env: { SALLYPORT_HOSTNAME: "variable", SALLYPORT_PORT: "2" },
    file: { hostname: "file", port: 3, tun: "file0" },
  };
  const { hostname, port, tun, certPin } = readSettings(daemonSettings, layers, []);
  expect([hostname, port, tun, certPin]).toEqual(["flag", 2, "file0", undefined]);
});

test("endpoints are a list in the file, and words with commas elsewhere", () => {
  const read = (env: Readonly<Record<string, string>>, file: object, problems: string[] = []) =>
    readSettings(daemonSettings, { flags: {}, env, file: { ...file } }, problems).endpoints?.map(String);
  expect(read({ SALLYPORT_ENDPOINTS: "198.51.100.7:41641, [2001:db8::1]:7" }, {})).toEqual([
    "198.51.100.7:41641",
    "[2001:db8::1]:7",
  ]);
  expect(read({}, { endpoints: ["198.51.100.7:41642"] })).toEqual(["198.51.100.7:41642"]);
  const problems: string[] = [];
  read({ SALLYPORT_ENDPOINTS: "198.51.100.7" }, {}, problems);
  expect(problems).toEqual([expect.stringContaining("give ADDRESS:PORT, by which peers reach this node")]);
});

test("an empty variable is none", () => {
  const layers = { flags: {}, env: { SALLYPORT_PORT: "" }, file: { port: 3 } };
  expect(readSettings(daemonSettings, layers, []).port).toBe(3);
});

test("all mistakes are named, each by its place", () => {
  const problems: string[] = [];
  const flags = { port: "0", certPin: "abc" };
  const env = { SALLYPORT_ADVERTISE_EXIT_NODE: "perhaps", SALLYPORT_LOGIN_SERVER: "control.example" };
  readSettings(daemonSettings, { flags, env, file: {} }, problems);
  expect(new Set(problems.map((problem) => problem.split(" is ")[0]))).toEqual(
    new Set(["--cert-pin", "--port", "SALLYPORT_ADVERTISE_EXIT_NODE", "SALLYPORT_LOGIN_SERVER"]),
  );
  expect(problems).toContain('--port is "0": give a port from 1 to 65535');
});

test("all mistakes of the file are named at once, and unknown keys refused", async () => {
  const { path, problems } = await problemsOf({
    port: 70000,
    prot: 1,
    relay: { listen: "here", more: 1 },
    control: 7,
  });
  expect(problems.map((problem) => problem.replaceAll(path, "FILE").split(/[:;] /)[0])).toEqual([
    '"port" in FILE is 70000',
    '"relay.listen" in FILE is "here"',
    '"relay.more" in FILE is no setting',
    '"control" in FILE is not an object',
    '"prot" in FILE is no setting',
  ]);
});

test.each([
  ["not JSON", "{", /is not JSON: correct it/],
  ["missing", undefined, /is not there: create it or leave --config out/],
])("a file that is %s is told", async (_, content, why) => {
  const path = content === undefined ? join(folder, "none.json") : fileWith(content);
  await expect(readConfigFile(path, [])).rejects.toThrow(why);
});

test("a file that is no object is told", async () => {
  const { path, problems } = await problemsOf("[]");
  expect(problems).toEqual([`${path} is not an object: write {…}`]);
});

test("what the user data of an instance writes is a configuration", () => {
  const config = agentConfig({
    port: 41641,
    loginServer: "https://control.example",
    hostname: "exit1",
    advertiseExitNode: true,
  });
  expect(agentConfigSchema.safeParse(config).error).toBeUndefined();
});

const accepted: readonly (readonly [string, unknown, unknown, Settings])[] = [
  ["port", "65535", 65535, daemonSettings],
  ["port", 1, 1, daemonSettings],
  ["advertiseExitNode", "true", true, daemonSettings],
  ["authKey", "-", { kind: "stdin" }, daemonSettings],
  ["authKey", "file:/run/key", { kind: "file", path: "/run/key" }, daemonSettings],
  ["loginServer", "http://127.0.0.1:8080", "http://127.0.0.1:8080", daemonSettings],
  ["listen", ":443", { host: undefined, port: 443 }, relaySettings],
  ["listen", "127.0.0.1:8443", { host: "127.0.0.1", port: 8443 }, relaySettings],
  ["listen", "[::1]:443", { host: "::1", port: 443 }, relaySettings],
  ["address", "2001:db8::1", "2001:db8::1", relaySettings],
  ["domain", "mesh.example.com", "mesh.example.com", controlSettings],
];

test.each(accepted)("%s takes %j", (name, value, expected, settings) => {
  expect(readSettings(settings, { flags: { [name]: value }, env: {}, file: {} }, [])[name]).toEqual(expected);
});

const refused: readonly (readonly [string, unknown, Settings])[] = [
  ["port", "0", daemonSettings],
  ["port", "65536", daemonSettings],
  ["port", "1e3", daemonSettings],
  ["port", "80.5", daemonSettings],
  ["port", "", daemonSettings],
  ["port", true, daemonSettings],
  ["hostname", "-x", daemonSettings],
  ["hostname", "a b", daemonSettings],
  ["logLevel", "loud", daemonSettings],
  ["loginServer", "https://user@control.example", daemonSettings],
  ["authKey", "spkey-literal", daemonSettings],
  ["listen", "443", relaySettings],
  ["listen", ":0", relaySettings],
  ["listen", ":65536", relaySettings],
  ["listen", "::1:443:x", relaySettings],
  ["regionCode", "New York", relaySettings],
  ["address", "relay.example", relaySettings],
];

test.each(refused)("%s refuses %j", (name, value, settings) => {
  const problems: string[] = [];
  readSettings(settings, { flags: { [name]: value }, env: {}, file: {} }, problems);
  expect(problems).toHaveLength(1);
});

test("an auth key may stand in its variable, and no error repeats one", () => {
  const problems: string[] = [];
  const env = { SALLYPORT_AUTH_KEY: "spkey-hush" };
  const { authKey } = readSettings(daemonSettings, { flags: {}, env, file: {} }, problems);
  expect([authKey, problems]).toEqual([{ kind: "literal", secret: "spkey-hush" }, []]);
  readSettings(daemonSettings, { flags: { authKey: "spkey-hush" }, env: {}, file: {} }, problems);
  expect(problems.join()).toContain("--auth-key");
  expect(problems.join()).not.toContain("hush");
});
