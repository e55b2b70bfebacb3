/** Certificates from a real authority, Pebble, on loopback: the relay and the coordination server get and renew them. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { type AddressInfo, connect as connectPlain, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type PeerCertificate } from "node:tls";
import { systemCalendar } from "../../agent/src/io/calendar.ts";
import { selfSignedCertificate } from "../../agent/src/io/tls-certificate.ts";
import { sleep } from "../../lab/system.ts";
import { buildPebble, buildPeers, PEERS_TIMEOUT_MS, testWithGo, testWithPeers } from "./peers.ts";

const root = join(__dirname, "../..");
const tsx = join(root, "node_modules/tsx/dist/loader.mjs");
const folder = mkdtempSync(join(tmpdir(), "sallyport-acme-"));
const NAME = "control.sallyport.example";
/** Of certificates for addresses; renewed after two thirds of it. */
const SHORT_LIFE_S = 15;

const children: { readonly name: string; readonly process: ChildProcess; said: string }[] = [];
let pebble: { readonly directory: string; readonly httpPort: number; readonly roots: string };
let dns: Server;

beforeAll(async () => {
  if (spawnSync("go", ["version"]).status !== 0) return;
  const program = await buildPebble();
  dns = createServer((client) => {
    client.on("error", () => client.destroy());
    client.on("data", (query) => client.write(loopbackFor(query)));
  });
  await new Promise<void>((resolve) => dns.listen(0, "127.0.0.1", resolve));
  pebble = await startPebble(program);
}, PEERS_TIMEOUT_MS);

afterEach(() => {
  for (const { process } of children.filter(({ name }) => name !== "pebble")) process.kill("SIGKILL");
});

afterAll(() => {
  for (const { process } of children) process.kill("SIGKILL");
  dns?.close();
  rmSync(folder, { recursive: true, force: true });
});

testWithGo(
  "for an address: relay and coordination show a short-lived certificate that needs no pin, and its successor without a restart",
  async () => {
    const [port, stateDir] = [await freePort(), join(folder, "both")];
    const relay = both("both", port, { joinTokenFile: join(stateDir, "join-token") });

    const first = await until("a certificate", () => shown(port, "127.0.0.1"));
    expect(first.subjectaltname).toBe("IP Address:127.0.0.1");
    const open = connect({ port, host: "127.0.0.1", ca: pebble.roots });
    await new Promise((resolve) => open.once("secureConnect", resolve));

    expect(statSync(join(stateDir, "acme.json")).mode & 0o777).toBe(0o600);
    expect(readFileSync(join(stateDir, "derp-map.json"), "utf8")).not.toContain("CertName");
    expect(readFileSync(join(stateDir, "join-token"), "utf8")).toMatch(/^[^#]+\n$/);

    const second = await until("its successor", async () => {
      const now = await shown(port, "127.0.0.1");
      return now.serialNumber === first.serialNumber ? undefined : now;
    });
    expect(Date.parse(second.valid_from)).toBeLessThan(Date.parse(first.valid_to));
    expect(relay.process.exitCode).toBeNull();
    expect(open.destroyed).toBe(false);
    open.destroy();
    expect(await refusesConnections(pebble.httpPort)).toBe(true);
  },
  60_000,
);

testWithGo(
  "for a name: the coordination server shows the authority's certificate, and an unproven name stays an attempt",
  async () => {
    const port = await freePort();
    const [map, stateDir] = [join(folder, "map.json"), join(folder, "control")];
    const node = { Name: "900a", RegionID: 900, HostName: "192.0.2.1", IPv4: "192.0.2.1" };
    const region = { RegionID: 900, RegionCode: "own", RegionName: "own", Nodes: [node] };
    writeFileSync(map, JSON.stringify({ Regions: { 900: region } }));
    const start = (hostname: string, into: string, at: number) =>
      sallyport(
        ...["control", "--listen", `127.0.0.1:${at}`, "--hostname", hostname, "--derp-map", map],
        ...["--acme", "--acme-terms-agreed", "--acme-directory", pebble.directory],
        ...["--acme-http-port", String(pebble.httpPort), "--state-dir", into, "--socket", join(into, "sock")],
      );
    start(NAME, stateDir, port);
    const certificate = await until("a certificate", () => shown(port, NAME));
    expect(certificate.subjectaltname).toBe(`DNS:${NAME}`);

    const blocked = start("blocked.example", join(folder, "blocked"), await freePort());
    await until("the failure", () => Promise.resolve(blocked.said.includes("acme-failed") || undefined));
    expect(blocked.said).toMatch(/no certificate for blocked\.example from 127\.0\.0\.1:\d+/);
    expect(blocked.process.exitCode).toBeNull();
  },
  60_000,
);

testWithPeers(
  "an unmodified tailscaled joins by such a certificate, knowing nothing but the authority's root",
  async () => {
    const { tailscale, tailscaled } = await buildPeers();
    const [port, authKeyFile] = [await freePort(), join(folder, "stock-key")];
    both("stock", port, { authKeyFile });
    await until("a certificate", () => shown(port, "127.0.0.1"));
    const [socket, authority] = [join(folder, "tailscaled.sock"), join(folder, "roots.pem")];
    writeFileSync(authority, pebble.roots);
    const env = { PATH: process.env["PATH"] ?? "", SSL_CERT_FILE: authority };
    const daemon = ["--tun=userspace-networking", "--state=mem:", `--statedir=${folder}`, "--port=0"];
    start("tailscaled", tailscaled, [...daemon, `--socket=${socket}`, "--no-logs-no-support"], env);
    await until("the daemon", () => Promise.resolve(existsSync(socket) || undefined));
    const login = [`--login-server=https://127.0.0.1:${port}`, `--auth-key=file:${authKeyFile}`];
    start("tailscale", tailscale, [`--socket=${socket}`, "up", ...login], env);
    const relay = await until("joining", () => {
      const { stdout } = spawnSync(tailscale, [`--socket=${socket}`, "status", "--json"], {
        encoding: "utf8",
      });
      const { BackendState, Self } = JSON.parse(stdout) as { BackendState: string; Self: { Relay: string } };
      return Promise.resolve(BackendState === "Running" && Self.Relay !== "" ? Self.Relay : undefined);
    });
    expect(relay).toBe("relay");
  },
  PEERS_TIMEOUT_MS,
);

async function startPebble(program: string): Promise<typeof pebble> {
  const [port, management, httpPort] = [await freePort(), await freePort(), await freePort()];
  const own = await selfSignedCertificate({
    stateDir: folder,
    names: ["127.0.0.1"],
    calendar: systemCalendar,
  });
  const [certificate, privateKey] = [join(folder, "pebble.pem"), join(folder, "pebble.key")];
  writeFileSync(certificate, own.certPem);
  writeFileSync(privateKey, own.keyPem, { mode: 0o600 });
  const config = configFile("pebble", {
    pebble: {
      ...{ listenAddress: `127.0.0.1:${port}`, managementListenAddress: `127.0.0.1:${management}` },
      ...{ certificate, privateKey, httpPort, tlsPort: 1, domainBlocklist: ["blocked.example"] },
      ...{ keyAlgorithm: "ecdsa", retryAfter: { authz: 1, order: 1 } },
      profiles: {
        default: { description: "as usual", validityPeriod: 7_776_000 },
        shortlived: { description: "for addresses", validityPeriod: SHORT_LIFE_S },
      },
    },
  });
  const env = { PEBBLE_VA_NOSLEEP: "1" };
  start(
    "pebble",
    program,
    ["-config", config, "-dnsserver", `127.0.0.1:${(dns.address() as AddressInfo).port}`],
    env,
  );
  const at = `https://127.0.0.1:${management}/roots/0`;
  const roots = await until("Pebble", () => get(at, own.certPem));
  return { directory: `https://127.0.0.1:${port}/dir`, httpPort, roots };
}

/** Relay and coordination server on one port of the loopback, with a certificate for 127.0.0.1. */
function both(name: string, port: number, control: object) {
  const stateDir = join(folder, name);
  const config = configFile(name, {
    relay: {
      ...{ listen: `127.0.0.1:${port}`, address: "127.0.0.1", coordination: true, stateDir },
      ...{ acme: true, acmeTermsAgreed: true, acmeEmail: "admin@sallyport.example" },
      ...{ acmeDirectory: pebble.directory, acmeHttpPort: pebble.httpPort, stunPort: port },
    },
    control: { hostname: "127.0.0.1", socket: join(folder, `${name}.sock`), ...control },
  });
  return sallyport("relay", "--config", config);
}

/** The agent from its sources. It trusts Pebble's own certificate, as it would trust a public authority's. */
function sallyport(...args: readonly string[]) {
  const program = ["--import", tsx, join(root, "agent/src/main.ts"), ...args];
  const env = { PATH: process.env["PATH"] ?? "", NODE_EXTRA_CA_CERTS: join(folder, "pebble.pem") };
  return start(args[0] ?? "", process.execPath, program, env);
}

function start(
  name: string,
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
) {
  const child = { name, process: spawn(program, args, { env: { ...env } }), said: "" };
  const say = (text: unknown): unknown => (child.said += String(text));
  child.process.stdout.on("data", say);
  child.process.stderr.on("data", say);
  children.push(child);
  return child;
}

function configFile(name: string, content: object): string {
  const file = join(folder, `${name}.json`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(file, JSON.stringify(content));
  return file;
}

/** Whatever is asked for over TCP, its address is 127.0.0.1; there is no IPv6 (RFC 1035, 4.1 and 4.2.2). */
function loopbackFor(message: Buffer): Buffer {
  const query = message.subarray(2);
  const end = query.indexOf(0, 12) + 5;
  const [question, isA] = [query.subarray(12, end), query.readUInt16BE(end - 4) === 1];
  const header = Buffer.from([query[0] ?? 0, query[1] ?? 0, 0x85, 0x80, 0, 1, 0, isA ? 1 : 0, 0, 0, 0, 0]);
  const address = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
  const answer = Buffer.concat([header, question, ...(isA ? [address] : [])]);
  return Buffer.concat([Buffer.from([answer.length >> 8, answer.length & 0xff]), answer]);
}

/** The certificate that a client sees who trusts the authority's root and nothing else; rejects where it is none of those. */
function shown(port: number, name: string): Promise<PeerCertificate> {
  return new Promise((resolve, reject) => {
    const servername = name === "127.0.0.1" ? {} : { servername: name };
    const socket = connect({ port, host: "127.0.0.1", ca: pebble.roots, ...servername }, () => {
      resolve(socket.getPeerCertificate());
      socket.destroy();
    }).on("error", reject);
  });
}

function get(url: string, ca: string): Promise<string> {
  return new Promise((resolve, reject) => {
    request(url, { ca }, (response) => {
      let text = "";
      response.on("data", (chunk) => (text += String(chunk)));
      response.on("end", () => (response.statusCode === 200 ? resolve(text) : reject(new Error(text))));
    })
      .on("error", reject)
      .end();
  });
}

function refusesConnections(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectPlain(port, "127.0.0.1")
      .on("connect", () => resolve(false))
      .on("error", () => resolve(true))
      .on("close", () => socket.destroy());
  });
}

async function until<T>(what: string, ask: () => Promise<T | undefined>): Promise<T> {
  let last: unknown;
  for (const deadline = performance.now() + 45_000; performance.now() < deadline; await sleep(100)) {
    const answer = await ask().catch((error: unknown) => void (last = error));
    if (answer !== undefined) return answer as T;
  }
  const words = children.map(({ name, said }) => `${name}:\n${said.slice(-2000)}`).join("\n");
  throw new Error(`${what} did not come (${String(last)})\n${words}`);
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
