import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { buildSync } from "esbuild";
import fc from "fast-check";
import { packTar, readTar } from "../../bin/tar.mjs";
import { requires } from "../skip.ts";

const root = join(__dirname, "../..");
const archiveOf = (architecture: string) =>
  join(root, `dist/bundle/sallyport-agent-linux-${architecture}.tar`);
const PINNED = JSON.parse(readFileSync(join(root, "bin/node-runtime.json"), "utf8")) as Record<
  string,
  string
>;

const folder = mkdtempSync(join(tmpdir(), "sallyport-bundle-"));
afterAll(() => rmSync(folder, { recursive: true }));

const made = spawnSync(process.execPath, [join(root, "bin/bundle.mjs")], { encoding: "utf8" });
const bundled = requires("npm-registry", made.status === 0, `the archive can not be made: ${made.stderr}`);
const qemu =
  spawnSync("qemu-aarch64-static", ["--version"]).status === 0 && existsSync("/usr/aarch64-linux-gnu/lib");
const emulated =
  made.status === 0
    ? requires("qemu-user", qemu, "install qemu-user-static, libc6-arm64-cross and libstdc++6-arm64-cross")
    : bundled;

const hashOf = (file: string) => createHash("sha256").update(readFileSync(file)).digest("hex");

/** As user data does it. */
function unpack(architecture: string): string {
  const into = join(folder, architecture);
  mkdirSync(into, { recursive: true });
  execFileSync("tar", ["-xf", archiveOf(architecture), "-C", into]);
  execFileSync("tar", [
    "-xzf",
    join(into, "node.tgz"),
    "-C",
    into,
    "--strip-components=2",
    "package/bin/node",
  ]);
  return into;
}

test("koffi's native half is of the version that the agent is built with", () => {
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
    packages: Record<string, { version: string }>;
  };
  expect(PINNED["koffi"]).toBe(lock.packages["node_modules/koffi"]?.version);
});

bundled(
  "the archives are the same byte for byte when they are made again",
  () => {
    const before = ["arm64", "x86_64"].map((architecture) => hashOf(archiveOf(architecture)));
    expect(spawnSync(process.execPath, [join(root, "bin/bundle.mjs")]).status).toBe(0);
    expect(["arm64", "x86_64"].map((architecture) => hashOf(archiveOf(architecture)))).toEqual(before);
  },
  60_000,
);

const isX64 = process.platform === "linux" && process.arch === "x64";
(isX64 ? bundled : test.skip)(
  "x86_64: its Node.js runs the agent in a folder with nothing else",
  () => {
    const into = unpack("x86_64");
    const run = (...args: string[]) =>
      execFileSync(join(into, "node"), args, { cwd: "/", encoding: "utf8", env: {} });
    expect(run("--version")).toBe(`v${PINNED["node"]}\n`);
    expect(run(join(into, "sallyport.mjs"), "--version")).toMatch(/^\d+\.\d+\.\d+/);
  },
  60_000,
);

bundled("what stands apart is in the archive, and loads without node_modules", async () => {
  const into = unpack("x86_64");
  const names = readdirSync(join(into, "apart"));
  expect(names).toEqual(
    readdirSync(join(root, "agent/src/io/apart")).map((name) => name.replace(".ts", ".mjs")),
  );
  for (const name of names) {
    const program = `import(${JSON.stringify(join(into, "apart", name))}).then((m) => console.log(Object.keys(m).length > 0))`;
    expect(execFileSync(process.execPath, ["-e", program], { cwd: "/", encoding: "utf8", env: {} })).toBe(
      "true\n",
    );
  }
});

emulated(
  "arm64: its Node.js runs the agent, loads its native half and knows OpenSSL's ciphers, in an emulator",
  () => {
    const into = unpack("arm64");
    const run = (...args: string[]) =>
      execFileSync("qemu-aarch64-static", ["-L", "/usr/aarch64-linux-gnu", join(into, "node"), ...args], {
        cwd: "/",
        encoding: "utf8",
        env: {},
      });
    expect(run("--version")).toBe(`v${PINNED["node"]}\n`);
    expect(run(join(into, "sallyport.mjs"), "--version")).toMatch(/^\d+\.\d+\.\d+/);
    const native = `process.dlopen({ exports: {} }, ${JSON.stringify(join(into, "koffi.node"))}); console.log("loaded")`;
    expect(run("-e", native)).toBe("loaded\n");
    // RFC 8439, 2.8.2: the tag of its example.
    const aead = `const c = require("node:crypto").createCipheriv("chacha20-poly1305",
      Buffer.from("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", "hex"),
      Buffer.from("070000004041424344454647", "hex"), { authTagLength: 16 });
      const text = Buffer.from("Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.");
      c.setAAD(Buffer.from("50515253c0c1c2c3c4c5c6c7", "hex"), { plaintextLength: text.length });
      c.update(text); c.final(); console.log(c.getAuthTag().toString("hex"));`;
    expect(run("-e", aead)).toBe("1ae10b594f09e26a7e902ecbd0600691\n");
  },
  300_000,
);

emulated(
  "arm64: every way to seal gives the known answers that the agent tries at its start, in an emulator",
  () => {
    const into = unpack("arm64");
    const program = join(into, "aead-ways.mjs");
    buildSync({
      ...{ entryPoints: [join(__dirname, "aead-ways.ts")], outfile: program, bundle: true },
      ...{ platform: "node", format: "esm" },
      banner: {
        js: 'import { createRequire as r } from "node:module"; const require = r(import.meta.url);',
      },
    });
    const [command, ...args] = onArm64(into, program);
    const said = execFileSync(command, args, { cwd: "/", encoding: "utf8", env: {} });
    const ways = ["openssl-raw", "openssl-raw-calls", "openssl-evp", "wasm", "node-crypto"];
    expect(JSON.parse(said)).toEqual(Object.fromEntries(ways.map((way) => [way, way])));
  },
  120_000,
);

emulated(
  "arm64: a native node pings its node, in an emulator, by a relay and coordination server on loopback",
  async () => {
    const [arm64, native] = [unpack("arm64"), unpack("x86_64")];
    const [tcp, stun] = [await freePort(), await freePort()];
    const at = (name: string) => join(folder, name);
    const joinTokenFile = at("join-token");
    writeFileSync(
      at("server.json"),
      JSON.stringify({
        relay: { listen: `127.0.0.1:${tcp}`, stunPort: stun, address: "127.0.0.1", coordination: true },
        control: { hostname: "127.0.0.1", socket: at("control.sock"), joinTokenFile },
      }),
    );
    const here: Command = [process.execPath, join(native, "sallyport.mjs")];
    const there = onArm64(arm64, join(arm64, "sallyport.mjs"));
    const running = new Map<string, ChildProcess>();
    const start = (name: string, [command, ...before]: Command, ...args: string[]) => {
      const log = openSync(at(`${name}.log`), "w");
      const stdio = ["ignore", log, log] as const;
      running.set(name, spawn(command, [...before, ...args], { cwd: "/", env: {}, stdio: [...stdio] }));
      closeSync(log);
    };
    const daemon = async (name: string, command: Command) =>
      start(
        ...[name, command, "daemon", "--tun", "memory", "--metrics", "off", "--hostname", name],
        ...["--port", String(await freePort()), "--state-dir", at(name), "--socket", at(`${name}.sock`)],
        ...["--auth-key", `file:${joinTokenFile}`, "--login-server", `https://127.0.0.1:${tcp}`],
      );
    const say = (...args: string[]) => {
      const [command, ...before] = here;
      return spawnSync(command, [...before, ...args], { env: {}, encoding: "utf8", timeout: 60_000 }).stdout;
    };
    try {
      start("server", here, "relay", "--config", at("server.json"), "--state-dir", at("server"));
      await until("a join token", 45, () => existsSync(joinTokenFile));
      await daemon("near", here);
      await daemon("far", there);
      await until("the arm64 node", 110, () => say("status", "--socket", at("near.sock")).includes("far"));
      const pong = /^pong from far \(100\.64\.0\.\d\) via \S+ in [\d.]+m?s$/m;
      const ping = () => say("ping", "--socket", at("near.sock"), "-c", "1", "--timeout", "10s", "far");
      await until("a pong", 45, () => pong.test(ping()));
      expect([...running.values()].map(({ exitCode }) => exitCode)).toEqual([null, null, null]);
    } catch (error) {
      const logs = [...running.keys()].map((name) => `${name}:\n${readFileSync(at(`${name}.log`), "utf8")}`);
      throw new Error(`${String(error)}\n${logs.join("\n")}`, { cause: error });
    } finally {
      for (const child of running.values()) child.kill("SIGKILL");
    }
  },
  240_000,
);

type Command = readonly [string, ...string[]];

function onArm64(into: string, program: string): Command {
  return ["qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu", join(into, "node"), program];
}

async function until(what: string, seconds: number, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + seconds * 1000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`${what} did not come within ${seconds} s`);
    await sleep(200);
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

test("a tar archive gives back what went in, whatever the order", () => {
  const files = fc.dictionary(fc.stringMatching(/^[a-z]{1,20}$/), fc.uint8Array({ maxLength: 1500 }), {
    maxKeys: 5,
  });
  fc.assert(
    fc.property(files, (contents) => {
      const entries = Object.entries(contents).map(
        ([name, content]) => [name, { content, mode: 0o644 }] as const,
      );
      const archive = packTar(Object.fromEntries(entries));
      expect(packTar(Object.fromEntries(entries.toReversed()))).toEqual(archive);
      for (const [name, content] of Object.entries(contents)) {
        expect(new Uint8Array(readTar(archive, name))).toEqual(content);
      }
    }),
    { numRuns: 30 },
  );
});
