/**
 * A laptop at home, with the internet and two exit nodes behind its router: what a client that uses an exit node meets.
 *
 *     laptop ── 192.168.50.0/24, 2001:db8:50::/64 ── home (router, printer, DNS) ──┐
 *     control (relay and coordination) ── internet ── web (and 9.9.9.9) ───────────┤
 *     exit, spare (exit nodes) ────────────────────────────────────────────────────┘
 */
import { cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Lab } from "../../lab/lab.ts";
import type { LabProcess } from "../../lab/processes.ts";
import { run, sleep } from "../../lab/system.ts";
import type { Network } from "../../lab/network.ts";
import { bundleLab, type LabBundle } from "./bundle.ts";

export const HOME = "192.168.50.1";
export const PRINTER = "192.168.50.9";
export const LAPTOP = "192.168.50.2";
export const WEB = "198.18.1.50";
export const WEB_V6 = "2001:db8:99::50";
export const EXITS = { exit: "198.18.1.30", spare: "198.18.1.31" } as const;
/** Known by this name only, so that the daemon has to look it up. */
const CONTROL = { name: "control.test", ip: "198.18.1.10", port: 8443 } as const;
const PUBLIC_DNS = "9.9.9.9";
const INTERNET = "198.18.0.1";
const START_MS = 15_000;

export type ExitName = keyof typeof EXITS;

/** One packet that left the laptop, in tcpdump's words. */
export type Packet = string;

export class ClientWorld {
  readonly #lab: Lab<Network>;
  readonly #programs: LabBundle;
  readonly #exits = new Map<ExitName, LabProcess>();
  #daemon: LabProcess | undefined;
  #homeDns: LabProcess | undefined;
  #webDns: LabProcess | undefined;
  #captures = 0;

  private constructor(lab: Lab<Network>, programs: LabBundle) {
    this.#lab = lab;
    this.#programs = programs;
  }

  static async open(): Promise<ClientWorld> {
    const agent = join(__dirname, "../../dist/agent");
    if (!existsSync(agent)) throw new Error(`there is no agent in ${agent}: run npm run build`);
    const programs = bundleLab();
    const lab = await Lab.open(plan(), { self: programs.self }).catch((error: unknown) => {
      programs.remove();
      throw error;
    });
    const world = new ClientWorld(lab, programs);
    try {
      cpSync(agent, join(lab.folder, "agent"), { recursive: true });
      await world.#start();
      return world;
    } catch (error) {
      await world.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    for (const name of ["laptop", ...Object.keys(EXITS)]) {
      rmSync(this.#filesOf(name), { recursive: true, force: true });
    }
    await this.#lab.close();
    this.#programs.remove();
  }

  /** Runs a program on the laptop: its exit code and output. */
  async on(host: string, command: readonly string[], timeoutMs = 20_000) {
    return await this.#lab.run(
      host,
      { name: `${host}-${command[0]?.replaceAll("/", "-")}`, command },
      timeoutMs,
    );
  }

  async ip(...args: readonly string[]): Promise<string> {
    return (await this.on("laptop", ["ip", ...args])).lines.join("\n");
  }

  /** `sallyport ARGS` on the laptop. */
  async sallyport(...args: readonly string[]) {
    return await this.sallyportOn("laptop", ...args);
  }

  async sallyportOn(host: "laptop" | "control" | ExitName, ...args: readonly string[]) {
    const words = args.filter(
      (arg, i) => i < 3 && /^(control|routes|exit-node|list|approve|set|up|down|status)$/.test(arg),
    );
    const rest = args.slice(words.length);
    return await this.on(host, this.#agent(...words, "--socket", join(this.#folder(host), "sock"), ...rest));
  }

  /** Gives a machine a network of its own, and a web server in it. */
  async addNetwork(host: ExitName, ip: string): Promise<void> {
    await this.on(host, ["ip", "addr", "add", `${ip}/24`, "dev", "lo"]);
    const server = this.#lab.start(host, {
      name: `${host}-web`,
      command: [...this.#programs.self, "http-server", "80"],
    });
    await server.readyLine(/^listening/, START_MS);
  }

  async status(): Promise<
    Record<string, unknown> & { readonly Peer: Record<string, Record<string, unknown>> | null }
  > {
    return JSON.parse((await this.sallyport("status", "--json")).lines.join("\n")) as never;
  }

  /** Starts the laptop's daemon, or starts it anew with the same state. */
  async startLaptop(): Promise<void> {
    this.#daemon = this.#lab.start("laptop", {
      name: "laptop",
      command: this.#agent(
        ...["daemon", "--tun", "sallyport0", "--socket", this.#socket, "--state-dir", this.#folder("laptop")],
        ...["--hostname", "laptop", ...this.#joining],
      ),
    });
    await this.until("the laptop to be up", async () => (await this.status())["BackendState"] === "Running");
  }

  /** Ends it, gently or as `kill -9` does. */
  async stopLaptop(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    if (signal === "SIGKILL" && this.#daemon?.pid !== undefined) process.kill(this.#daemon.pid, "SIGKILL");
    else await this.#daemon?.stop();
    await this.#daemon?.exited;
  }

  /** What the laptop's daemon has said. */
  get daemonLines(): readonly string[] {
    return this.#daemon?.lines ?? [];
  }

  /** @param path where it looks for programs first */
  async startExit(name: ExitName, path?: string): Promise<void> {
    const folder = this.#folder(name);
    const daemon = this.#lab.start(name, {
      name,
      ...(path === undefined ? {} : { env: { PATH: `${path}:${process.env["PATH"] ?? ""}` } }),
      command: this.#agent(
        ...["daemon", "--tun", "sallyport0", "--socket", join(folder, "sock"), "--state-dir", folder],
        ...["--hostname", name, "--advertise-exit-node", ...this.#joining],
      ),
    });
    this.#exits.set(name, daemon);
    await daemon.readyLine(/control-state.*running|"running"/, START_MS);
  }

  async stopExit(name: ExitName): Promise<void> {
    const daemon = this.#exits.get(name);
    if (daemon?.pid !== undefined) process.kill(daemon.pid, "SIGKILL");
    await daemon?.exited;
  }

  /** Pings without end, ten times a second. */
  startPing(to: string): LabProcess {
    return this.#lab.start("laptop", { name: "ping", command: ["ping", "-i", "0.1", to] });
  }

  /** A folder with a program that takes two seconds longer than it does. */
  slowly(program: string): string {
    const folder = join(this.#folder("slow"), program);
    mkdirSync(folder, { recursive: true });
    const script = `#!/bin/sh\nsleep 2\nPATH=/usr/sbin:/sbin:/usr/bin:/bin exec ${program} "$@"\n`;
    writeFileSync(join(folder, program), script, { mode: 0o755 });
    return folder;
  }

  /** What its daemon has changed is not known any more, as after a boot. */
  forgetExit(name: ExitName): void {
    rmSync(join(this.#folder(name), "sock-forwarding.json"));
  }

  /** What the web server saw us as, or how it failed. */
  async visit(url = `http://${WEB}/`): Promise<string> {
    const got = await this.on("laptop", [...this.#programs.self, "http-get", url]);
    const text = got.lines.join(" ");
    return /hello ([\da-f.:]+),/.exec(text)?.[1] ?? `failed: ${text.slice(-200)}`;
  }

  /** The address of a name, asked as every program asks. */
  async lookUp(name: string): Promise<string> {
    const script = `require("dns").lookup(${JSON.stringify(name)}, (e, a) => console.log(e?.code ?? a))`;
    return (await this.on("laptop", [process.execPath, "-e", script])).lines.join(" ");
  }

  /** Whether a TCP connection opens. */
  async connects(host: string, port: number, ...options: readonly string[]): Promise<string> {
    const script = `const s = require("net").connect({ host: ${JSON.stringify(host)}, port: ${port}${options.join("")} });
      s.on("connect", () => { console.log("connected"); s.destroy(); });
      s.on("error", (e) => { console.log(e.code); });
      setTimeout(() => { console.log("silence"); process.exit(); }, 1500).unref();
      setTimeout(() => s.destroy(), 1600);`;
    return (await this.on("laptop", [process.execPath, "-e", script])).lines[0] ?? "";
  }

  /** Names that were asked for at the router's DNS server, and at the public one. */
  get askedAtHome(): readonly string[] {
    return (this.#homeDns?.lines ?? []).filter((line) => line.startsWith("asked"));
  }

  get askedInPublic(): readonly string[] {
    return (this.#webDns?.lines ?? []).filter((line) => line.startsWith("asked"));
  }

  /** What leaves the laptop by its own network meanwhile, without ARP. */
  async capture(act: () => Promise<void>): Promise<readonly Packet[]> {
    const name = `capture-${this.#captures++}`;
    const filter = "not arp";
    const tcpdump = this.#lab.start("laptop", {
      name,
      command: ["tcpdump", "-i", "eth0", "-Q", "out", "-n", "-l", "--immediate-mode", filter],
    });
    await tcpdump.readyLine(/listening on/, START_MS);
    await act();
    await sleep(200);
    await tcpdump.stop();
    return tcpdump.lines.filter((line) => /^\d\d:\d\d:\d\d/.test(line));
  }

  /** Drops everything to and from this machine, as when it is gone. */
  async cut(name: ExitName): Promise<void> {
    await this.on("internet", [
      "nft",
      `add rule inet middle cut ip saddr ${EXITS[name]} drop; add rule inet middle cut ip daddr ${EXITS[name]} drop`,
    ]);
  }

  async restore(): Promise<void> {
    await this.on("internet", ["nft", "flush chain inet middle cut"]);
  }

  async until(what: string, holds: () => Promise<boolean>, timeoutMs = 20_000): Promise<number> {
    const begin = performance.now();
    while (!(await holds().catch(() => false))) {
      if (performance.now() - begin > timeoutMs) {
        throw new Error(
          `waited in vain for ${what}; the daemon's last words:\n  ${this.daemonLines.slice(-15).join("\n  ")}`,
        );
      }
      await sleep(50);
    }
    return performance.now() - begin;
  }

  async #start(): Promise<void> {
    mkdirSync(this.#filesOf("laptop"), { recursive: true });
    writeFileSync(
      join(this.#filesOf("laptop"), "resolv.conf"),
      `nameserver ${HOME}\noptions timeout:1 attempts:1\n`,
    );
    for (const name of Object.keys(EXITS)) {
      mkdirSync(this.#filesOf(name), { recursive: true });
      writeFileSync(
        join(this.#filesOf(name), "hosts"),
        `127.0.0.1 localhost\n${CONTROL.ip} ${CONTROL.name}\n`,
      );
    }
    const dns = (ip: string): readonly string[] => [
      ...[process.execPath, join(__dirname, "dns-server.mjs"), ip, `web.test=${WEB}`],
    ];
    this.#homeDns = this.#lab.start("home", {
      name: "home-dns",
      command: [...dns(HOME), `${CONTROL.name}=${CONTROL.ip}`],
    });
    this.#webDns = this.#lab.start("web", { name: "web-dns", command: dns(PUBLIC_DNS) });
    this.#lab.start("web", { name: "web", command: [...this.#programs.self, "http-server", "80"] });
    this.#lab.start("home", { name: "printer", command: [...this.#programs.self, "http-server", "80"] });
    const folder = this.#folder("control");
    const relay = this.#lab.start("control", {
      name: "relay",
      command: this.#agent(
        ...[
          "relay",
          "--state-dir",
          folder,
          "--listen",
          "0.0.0.0:443",
          "--stun-port",
          "3478",
          "--region-id",
          "900",
        ],
        ...["--hostname", CONTROL.name, "--address", CONTROL.ip, "--region-code", "nyc"],
      ),
    });
    await relay.readyFile(join(folder, "derp-map.json"), START_MS);
    const control = this.#lab.start("control", {
      name: "control",
      command: this.#agent(
        ...["control", "--state-dir", join(folder, "c"), "--listen", `0.0.0.0:${CONTROL.port}`],
        ...["--hostname", CONTROL.name, "--socket", join(folder, "sock")],
        ...["--derp-map", join(folder, "derp-map.json"), "--join-token-file", join(folder, "token")],
      ),
    });
    await control.readyFile(join(folder, "token"), START_MS);
    await Promise.all([this.startExit("exit"), this.startExit("spare")]);
    await this.startLaptop();
    await this.until("the exits", async () => Object.keys((await this.status()).Peer ?? {}).length === 2);
  }

  get #joining(): readonly string[] {
    const url = `https://${CONTROL.name}:${CONTROL.port}`;
    return ["--login-server", url, "--auth-key", `file:${join(this.#folder("control"), "token")}`];
  }

  get #socket(): string {
    return join(this.#folder("laptop"), "sock");
  }

  /** What `ip netns exec` shows a host in the place of files of /etc. */
  #filesOf(host: string): string {
    return join("/etc/netns", this.#lab.namespace(host));
  }

  #agent(...args: readonly string[]): readonly string[] {
    return [process.execPath, join(this.#lab.folder, "agent/sallyport.mjs"), ...args];
  }

  #folder(name: string): string {
    const folder = join(this.#lab.folder, "state", name);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    return folder;
  }
}

/** All that a namespace is told by `ip`. */
function machine(name: string, ips: readonly string[]): Network["namespaces"][number] {
  const commands = [
    "link set lo up",
    "link set eth0 addrgenmode none up",
    ...ips.map((ip) => `addr add ${ip} dev eth0 ${ip.includes(":") ? "nodad" : ""}`),
    `route add default via ${INTERNET} dev eth0 onlink`,
    ...(ips.some((ip) => ip.includes(":")) ? ["route add default via 2001:db8:99::1"] : []),
  ];
  return { name, forwards: false, rules: "", commands };
}

function plan(): Network {
  const publicHosts = {
    control: [CONTROL.ip],
    exit: [EXITS.exit],
    spare: [EXITS.spare],
    web: [WEB, PUBLIC_DNS],
  };
  const home = {
    name: "home",
    forwards: true,
    rules: `table ip masq { chain post { type nat hook postrouting priority 100; oifname wan masquerade; }; }`,
    commands: [
      "link set lo up",
      // Who forwards IPv6 asks for neighbours by link-local addresses.
      "link set lan up",
      "link set wan up",
      `addr add ${HOME}/24 dev lan`,
      `addr add ${PRINTER}/24 dev lan`,
      "addr add 2001:db8:50::1/64 dev lan nodad",
      "addr add 198.18.2.1/32 dev wan",
      "addr add fd00:2::2/64 dev wan nodad",
      `route add default via ${INTERNET} dev wan onlink`,
      "route add default via fd00:2::1",
    ],
  };
  const laptop = {
    name: "laptop",
    forwards: false,
    rules: "",
    commands: [
      "link set lo up",
      "link set eth0 addrgenmode none up",
      `addr add ${LAPTOP}/24 dev eth0`,
      "addr add 2001:db8:50::2/64 dev eth0 nodad",
      `route add default via ${HOME}`,
      "route add default via 2001:db8:50::1",
    ],
  };
  const internet = {
    name: "internet",
    forwards: true,
    rules: "table inet middle { chain cut { type filter hook forward priority 0; }; }",
    commands: [
      "link set lo up",
      ...Object.entries({ ...publicHosts, home: ["198.18.2.1"] }).flatMap(([name, ips]) => [
        `link set ${name} up`,
        `addr add ${INTERNET}/32 dev ${name}`,
        ...ips.map((ip) => `route add ${ip}/32 dev ${name}`),
      ]),
      "addr add fd00:2::1/64 dev home nodad",
      "addr add 2001:db8:99::1/64 dev web nodad",
      "route add 2001:db8:50::/64 via fd00:2::2",
    ],
  };
  const machines = Object.entries(publicHosts).map(([name, ips]) => {
    const all =
      name === "web" ? [...ips.map((ip) => `${ip}/32`), `${WEB_V6}/64`] : ips.map((ip) => `${ip}/32`);
    const spec = machine(name, all);
    return spec;
  });
  return {
    namespaces: [home, laptop, internet, ...machines],
    links: [
      {
        ends: [
          { namespace: "home", device: "lan" },
          { namespace: "laptop", device: "eth0" },
        ],
        delayMs: 0,
      },
      {
        ends: [
          { namespace: "home", device: "wan" },
          { namespace: "internet", device: "home" },
        ],
        delayMs: 0,
      },
      ...Object.keys(publicHosts).map((name): Network["links"][number] => ({
        ends: [
          { namespace: name, device: "eth0" },
          { namespace: "internet", device: name },
        ],
        delayMs: 0,
      })),
    ],
  };
}

/** IPv6 forwarding, which a lab's plan can not ask for. */
export async function forwardV6(world: ClientWorld): Promise<void> {
  for (const host of ["home", "internet"])
    await world.on(host, ["sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"]);
  await run("true", []);
}
