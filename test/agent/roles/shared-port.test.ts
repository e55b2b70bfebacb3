import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "../../../agent/src/base/log.ts";
import { publishJoinToken } from "../../../agent/src/roles/join-token.ts";
import { type SharedPort, startSharedPort } from "../../../agent/src/roles/shared-port.ts";
import { readJoinKey } from "../../../agent/src/cli/auth-key.ts";

let folder: string;
let both: SharedPort;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "sallyport-shared-"));
  const listen = { host: "127.0.0.1", port: 0 };
  both = await startSharedPort({
    relay: {
      ...{ listen, stunPort: -1, hostname: "127.0.0.1", stateDir: folder, regionId: 900 },
      ...{ regionCode: "own", log: silentLog },
    },
    control: (derpMap) =>
      Promise.resolve({
        ...{ listen, stateDir: folder, hostname: "127.0.0.1", derpMap, log: silentLog },
        authKeyFile: join(folder, "auth-key"),
      }),
  });
});
afterAll(async () => {
  await both.close();
  rmSync(folder, { recursive: true });
});

function status(path: string, headers = {}): Promise<number | undefined> {
  const { port } = both.relay.address;
  return new Promise((resolve, reject) => {
    request(
      { host: "127.0.0.1", port, path, headers, rejectUnauthorized: false, agent: false },
      (response) => {
        response.resume();
        resolve(response.statusCode);
      },
    )
      .on("error", reject)
      .end();
  });
}

test.each([
  ["/derp/probe", 200],
  ["/generate_204", 204],
  ["/key?v=130", 200],
  ["/elsewhere", 404],
])("%s is answered once, with %d", async (path, code) => {
  expect(await status(path)).toBe(code);
});

test.each([
  ["/derp/elsewhere", 404],
  ["/derpy", 404],
  ["/elsewhere", 404],
  ["/derp", 426],
  ["/derp/probe", 200],
])("%s is answered with %d, whatever protocol it is to become", async (path, code) => {
  expect(await status(path, { connection: "upgrade", upgrade: "moon" })).toBe(code);
});

test("both show the one certificate, and the map that nodes get has the relay", () => {
  expect(both.control.certPin).toBe(both.relay.certPin);
  expect(both.control.port).toBe(both.relay.address.port);
});

test("the join token holds the auth key and the pin, and is taken apart by whoever joins", async () => {
  const file = join(folder, "join-token");
  await publishJoinToken({
    ...{ authKeyFile: join(folder, "auth-key"), certPin: both.control.certPin, file },
    ...{ parameter: undefined, log: silentLog },
  });
  const key = readFileSync(join(folder, "auth-key"), "utf8").trim();
  expect(await readJoinKey({ kind: "file", path: file }, commandWith(""))).toEqual({
    authKey: key,
    certPin: both.control.certPin,
  });
});

test("what stands in a parameter before its node has written it is no key", async () => {
  await expect(readJoinKey({ kind: "stdin" }, commandWith("pending\n"))).rejects.toThrow(
    "standard input holds no join token yet: its node writes it some minutes after it was deployed",
  );
});

test("the parameter is written again until AWS takes it", async () => {
  const written: string[] = [];
  let calls = 0;
  const done = new Promise<void>((resolve) => {
    void publishJoinToken({
      ...{ authKeyFile: join(folder, "auth-key"), certPin: "sha256-raw:00", file: undefined },
      ...{ parameter: "/own/join", log: silentLog, retryMs: 1 },
      write: (name, value) => {
        if (++calls < 3) return Promise.reject(new Error("not yet"));
        written.push(`${name} ${value}`);
        resolve();
        return Promise.resolve();
      },
    });
  });
  await done;
  expect(written).toEqual([expect.stringMatching(/^\/own\/join spkey-\S+#sha256-raw:00$/)]);
});

function commandWith(input: string) {
  const stdin = (async function* () {
    yield input;
  })();
  return { stdio: { stdin, interrupt: new AbortController().signal }, sleep: () => Promise.resolve() };
}
