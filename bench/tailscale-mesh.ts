/** Unmodified tailscaled and derper. The coordination server is ours: it has no part in what is measured. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { systemCalendar } from "../agent/src/io/calendar.ts";
import { selfSignedCertificate } from "../agent/src/io/tls-certificate.ts";
import type { LabProcess } from "../lab/processes.ts";
import { RELAY_IP, type MachineName } from "./internet.ts";
import {
  type BenchLab,
  clock,
  Device,
  folderIn,
  LineWatch,
  type Mesh,
  runCommand,
  type StartedDevice,
} from "./mesh.ts";
import { Agent, type ControlServer, startControl } from "./sallyport-mesh.ts";

const RELAY_NAME = "derp-nyc.lab.example";
const START_LIMIT_MS = 15_000;

export class TailscaleMesh implements Mesh {
  readonly name = "tailscaled";
  readonly lab: BenchLab;
  readonly servers: Record<string, LabProcess> = {};
  readonly #agent: Agent;
  readonly #programs: string;
  #control: ControlServer | undefined;
  #authorities = "";

  /** @param programs the folder with tailscaled, tailscale and derper */
  constructor(lab: BenchLab, bundle: string, programs: string) {
    this.lab = lab;
    this.#agent = new Agent(lab, bundle);
    this.#programs = programs;
  }

  async startServers(): Promise<void> {
    const certificate = await this.#startRelay();
    const map = join(folderIn(this.lab, "relay"), "derp-map.json");
    writeFileSync(map, JSON.stringify({ Regions: { 900: REGION } }));
    this.#control = await startControl(this.#agent, map);
    this.servers["coordination (ours)"] = this.#control.process;
    this.#authorities = join(this.lab.folder, "authorities.pem");
    writeFileSync(this.#authorities, certificate + this.#control.certificate);
  }

  async startDevice(machine: MachineName, identity: string): Promise<StartedDevice> {
    const state = folderIn(this.lab, identity);
    const socketPath = join(state, "sock");
    if (!existsSync(join(state, "tailscaled.state"))) await this.#register(machine, identity, state);
    const relayUp = new LineWatch(/derp-900 connected/);
    const began = clock();
    const program = this.#start(machine, state, relayUp.take);
    const device = new Device(program, {
      socketPath,
      host: "local-tailscaled.sock",
      prefix: "/localapi/v0/",
    });
    const running = await device.untilRunning();
    if (running === undefined) throw new Error(`${identity} did not come up:\n${lastWords(program)}`);
    return { device, runningMs: running - began, relayMs: (await relayUp.seen(program)) - began };
  }

  async command(machine: MachineName, identity: string, words: readonly string[]): Promise<void> {
    const socket = join(folderIn(this.lab, identity), "sock");
    await runCommand(this.lab, machine, [join(this.#programs, "tailscale"), `--socket=${socket}`, ...words]);
  }

  /** Once, so that later starts are like ours: the state is there and the daemon goes on by itself. */
  async #register(machine: MachineName, identity: string, state: string): Promise<void> {
    if (this.#control === undefined) throw new Error("the servers come first");
    const { url, authKeyFile } = this.#control;
    const program = this.#start(machine, state, () => {});
    const socket = join(state, "sock");
    await program.readyFile(socket, START_LIMIT_MS);
    const up = await this.lab.run(
      machine,
      {
        name: `${machine}-up`,
        command: [
          ...[join(this.#programs, "tailscale"), `--socket=${socket}`, "up", `--login-server=${url}`],
          ...[`--auth-key=${readFileSync(authKeyFile, "utf8").trim()}`, "--accept-dns=false"],
          ...[`--hostname=${identity}`, "--timeout=20s"],
        ],
      },
      START_LIMIT_MS * 2,
    );
    if (up.code !== 0) throw new Error(`tailscale up failed:\n${up.lines.join("\n")}\n${lastWords(program)}`);
    await program.stop();
  }

  #start(machine: MachineName, state: string, onLine: (line: string) => void): LabProcess {
    return this.lab.start(machine, {
      name: `${machine}-tailscaled`,
      command: [
        ...[join(this.#programs, "tailscaled"), `--statedir=${state}`, `--socket=${join(state, "sock")}`],
        ...["--tun=tailscale0", "--port=41641", "--no-logs-no-support"],
      ],
      env: { TS_NO_LOGS_NO_SUPPORT: "true", SSL_CERT_FILE: this.#authorities },
      onLine,
    });
  }

  /** Returns its certificate. */
  async #startRelay(): Promise<string> {
    const folder = folderIn(this.lab, "relay");
    const { keyPem, certPem } = await selfSignedCertificate({
      stateDir: folder,
      names: [RELAY_NAME],
      calendar: systemCalendar,
    });
    writeFileSync(join(folder, `${RELAY_NAME}.crt`), certPem);
    writeFileSync(join(folder, `${RELAY_NAME}.key`), keyPem, { mode: 0o600 });
    const relay = this.lab.start("relay", {
      name: "derper",
      command: [
        ...[join(this.#programs, "derper"), "-a", ":443", "-http-port", "-1", "-certmode", "manual"],
        ...["-certdir", folder, "-hostname", RELAY_NAME, "-stun-port", "3478", "-c", join(folder, "key")],
      ],
    });
    await relay.readyLine(/serving on/, START_LIMIT_MS);
    this.servers["relay"] = relay;
    return certPem;
  }
}

const REGION = {
  RegionID: 900,
  RegionCode: "nyc",
  RegionName: "nyc",
  Nodes: [
    {
      Name: "900a",
      RegionID: 900,
      HostName: RELAY_NAME,
      IPv4: RELAY_IP,
      IPv6: "none",
      STUNPort: 3478,
      DERPPort: 443,
    },
  ],
};

const lastWords = (program: LabProcess): string => program.lines.slice(-15).join("\n");
