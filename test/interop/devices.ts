/** Devices of a mesh: our daemon and unmodified tailscaled. Their commands are spelled alike, so tests treat them alike. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { LabProcess } from "../../lab/processes.ts";
import { sleep } from "../../lab/system.ts";
import type { Peers } from "./peers.ts";
import { RELAY_CODE, type Server } from "./servers.ts";
import { OURS, THEIRS, type Host, type Said, type World } from "./world.ts";

/** What both say of a peer in `status --json`. */
export interface PeerJson {
  readonly HostName: string;
  readonly TailscaleIPs: readonly string[];
  /** Empty unless the connection is direct. */
  readonly CurAddr: string;
  /** Code of its home relay's region. */
  readonly Relay: string;
}

interface StatusJson {
  readonly BackendState: string;
  readonly Self: PeerJson;
  readonly Peer?: Readonly<Record<string, PeerJson>>;
}

const JOIN_TIMEOUT_MS = 20_000;
const COMMAND_TIMEOUT_MS = 40_000;
const POLL_MS = 50;

export abstract class Device {
  readonly host: Host;
  protected readonly world: World;
  #program: LabProcess | undefined;
  #ips: readonly string[] = [];

  constructor(world: World, host: Host) {
    this.world = world;
    this.host = host;
  }

  /** In the mesh, IPv4. */
  get ip(): string {
    return this.#ips.find((ip) => ip.includes(".")) ?? "";
  }

  get ip6(): string {
    return this.#ips.find((ip) => ip.includes(":")) ?? "";
  }

  protected abstract startProgram(): Promise<LabProcess>;
  protected abstract cli(args: readonly string[]): readonly string[];

  /** Returns when it is part of the mesh. */
  async start(): Promise<void> {
    this.#program = await this.startProgram();
    this.#ips = await this.until("joining", async () => {
      const { BackendState, Self } = await this.status();
      return BackendState === "Running" && Self.TailscaleIPs.length > 0 ? Self.TailscaleIPs : undefined;
    });
  }

  async stop(): Promise<void> {
    await this.#program?.stop();
  }

  /** Stops it, and starts it with the same state. */
  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  /** Runs one of its commands, such as `ping HOST` or `status`. */
  command(...args: readonly string[]): Promise<Said> {
    const name = `${this.host}-${args[0]}`;
    return this.world.run(this.host, { name, command: this.cli(args) }, COMMAND_TIMEOUT_MS);
  }

  /** What `ping ARGS` printed. */
  async ping(...args: readonly string[]): Promise<readonly string[]> {
    return (await this.command("ping", ...args)).lines;
  }

  async status(): Promise<StatusJson> {
    const { lines } = await this.command("status", "--json");
    return JSON.parse(lines.join("\n")) as StatusJson;
  }

  async peer(ip: string): Promise<PeerJson | undefined> {
    return Object.values((await this.status()).Peer ?? {}).find((peer) => peer.TailscaleIPs?.includes(ip));
  }

  /** Returns when the coordination server has told it of a peer and where to reach it. */
  async hearsOf(peer: Device): Promise<void> {
    await this.until(`hearing of ${peer.host}`, async () =>
      (await this.peer(peer.ip))?.Relay === RELAY_CODE ? true : undefined,
    );
  }

  /** Asks again until there is an answer. @throws Error with the program's last words */
  async until<T>(what: string, ask: () => Promise<T | undefined>, timeoutMs = JOIN_TIMEOUT_MS): Promise<T> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      // Commands fail while the program is starting.
      const answer = await ask().catch(() => undefined);
      if (answer !== undefined) return answer;
      if (performance.now() > deadline) {
        const last = this.#program?.lines.slice(-LAST_WORDS).join("\n  ") ?? "";
        throw new Error(
          `${this.host} did not get to ${what} in ${timeoutMs / 1000} s; its last words:\n  ${last}`,
        );
      }
      await sleep(POLL_MS);
    }
  }
}

const LAST_WORDS = 15;

/** Starts both. Returns when each can reach the other, though nobody has spoken yet. */
export async function joinAll(one: Device, other: Device): Promise<void> {
  await Promise.all([one.start(), other.start()]);
  await Promise.all([one.hearsOf(other), other.hearsOf(one)]);
}

export class Ours extends Device {
  readonly #server: Server;

  constructor(world: World, server: Server) {
    super(world, OURS);
    this.#server = server;
  }

  protected override async startProgram(): Promise<LabProcess> {
    const { url, certPin, authKeyFile } = this.#server;
    return this.world.start(OURS, {
      name: "sallyport",
      command: this.world.sallyport(
        ...["daemon", "--tun", "sallyport0", "--socket", this.#socket, "--hostname", OURS],
        ...["--state-dir", this.world.folderOf(OURS), "--login-server", url, "--cert-pin", certPin],
        ...["--auth-key", `file:${authKeyFile}`],
      ),
    });
  }

  protected override cli([command = "", ...args]: readonly string[]): readonly string[] {
    return this.world.sallyport(command, "--socket", this.#socket, ...args);
  }

  get #socket(): string {
    return join(this.world.folderOf(OURS), "sock");
  }
}

export class Tailscaled extends Device {
  readonly #server: Server;
  readonly #peers: Peers;

  constructor(world: World, server: Server, peers: Peers) {
    super(world, THEIRS);
    this.#server = server;
    this.#peers = peers;
  }

  protected override async startProgram(): Promise<LabProcess> {
    const folder = this.world.folderOf(THEIRS);
    const program = this.world.start(THEIRS, {
      name: "tailscaled",
      command: [
        ...[this.#peers.tailscaled, `--statedir=${folder}`, `--socket=${this.#socket}`],
        ...["--tun=tailscale0", "--port=41641", "--no-logs-no-support"],
      ],
      env: { TS_NO_LOGS_NO_SUPPORT: "true", SSL_CERT_FILE: this.#server.certFile },
    });
    await program.readyFile(this.#socket, JOIN_TIMEOUT_MS);
    const { code, lines } = await this.command(
      ...["up", `--login-server=${this.#server.url}`, "--accept-dns=false", `--hostname=${THEIRS}`],
      ...[`--auth-key=${readFileSync(this.#server.authKeyFile, "utf8").trim()}`, "--timeout=15s"],
    );
    if (code !== 0)
      throw new Error(`tailscale up failed: ${[...lines, ...program.lines.slice(-LAST_WORDS)].join("\n")}`);
    return program;
  }

  protected override cli(args: readonly string[]): readonly string[] {
    return [this.#peers.tailscale, `--socket=${this.#socket}`, ...args];
  }

  get #socket(): string {
    return join(this.world.folderOf(THEIRS), "sock");
  }
}
