/** The servers around the stacks: the lab's own relays, its coordination server and its web server, and what joins them to those of stacks. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { OperationError } from "../agent/src/base/errors.ts";
import type { Agents } from "./agents.ts";
import type { RunningCloud } from "./cloud/running.ts";
import type { Lab } from "./lab.ts";
import type { Services } from "./services/services.ts";
import { START_TIMEOUT_MS } from "./stage.ts";
import type { ServerPart } from "./topology.ts";

/** With what devices join. */
export interface Joining {
  readonly loginServer: string;
  readonly token: string;
}

export interface ServersOptions {
  readonly lab: Lab;
  readonly cloud: RunningCloud;
  readonly agents: Agents;
  readonly services: Services;
  readonly self: readonly string[];
  /** Names that DNS knows → hosts. */
  readonly names: Readonly<Record<string, string>>;
  /** The text of an instance's file, once it is there. */
  readonly fileOf: (namespace: string, path: string) => Promise<string>;
}

const WEB_PORT = 80;
/** Beside the stacks' own, which begin at 900. */
const FIRST_RELAY_REGION = 950;

export class Servers {
  readonly #options: ServersOptions;

  constructor(options: ServersOptions) {
    this.#options = options;
  }

  async startWeb(): Promise<void> {
    const { lab, self } = this.#options;
    const { web } = lab.topology.cast;
    if (web === undefined) return;
    const server = lab.start(web.namespace, { name: "web", command: [...self, "web", String(WEB_PORT)] });
    await server.readyLine(/^listening/, START_TIMEOUT_MS);
  }

  /** Undefined where nobody wants to join. @throws OperationError where there is nothing to join */
  async startNetwork(): Promise<Joining | undefined> {
    const { relays, control } = this.#options.lab.topology.cast;
    const maps = await Promise.all(relays.map((relay, i) => this.#startRelay(relay, i)));
    if (control === undefined) return this.#joinTheStack();
    return this.#startControl(control, await this.#derpMap(maps));
  }

  /** @returns the file with its relay map */
  async #startRelay({ namespace, ip }: ServerPart, index: number): Promise<string> {
    const { agents } = this.#options;
    const map = join(agents.stateFolder(namespace), "derp-map.json");
    const relay = agents.launch(namespace, "relay", [
      ...["--listen", "0.0.0.0:443", "--stun-port", "3478"],
      ...["--hostname", ip.text, "--address", ip.text],
      ...["--region-id", String(FIRST_RELAY_REGION + index), "--region-code", namespace],
    ]);
    await relay.readyFile(map, START_TIMEOUT_MS);
    return map;
  }

  /** The lab's own relays and those of the stacks, as a person would put them together. */
  async #derpMap(own: readonly string[]): Promise<string> {
    const { cloud, lab, fileOf } = this.#options;
    const stacks = cloud.instances
      .filter(({ userData }) => userData.includes('"relay": {'))
      .map(({ namespace }) => fileOf(namespace, "/var/lib/sallyport/derp-map.json"));
    const maps = [...own.map((file) => readFileSync(file, "utf8")), ...(await Promise.all(stacks))];
    const regions = maps.map((text) => (JSON.parse(text) as { Regions: object }).Regions);
    const file = join(lab.folder, "derp-map.json");
    writeFileSync(file, JSON.stringify({ Regions: Object.assign({}, ...regions) as object }));
    return file;
  }

  async #startControl({ namespace, ip }: ServerPart, derpMap: string): Promise<Joining> {
    const { agents, names } = this.#options;
    const state = agents.stateFolder(namespace);
    const [authKey, token] = [join(state, "auth-key"), join(state, "join-token")];
    const name = Object.entries(names).find(([, host]) => host === namespace)?.[0];
    const server = agents.launch(namespace, "control", [
      ...["--listen", "0.0.0.0:443", "--hostname", name ?? ip.text, "--derp-map", derpMap],
      ...["--socket", agents.socket(namespace), "--auth-key-file", authKey, "--join-token-file", token],
      ...(name === undefined ? [] : this.#certificate(state, name)),
    ]);
    await server.readyFile(token, START_TIMEOUT_MS);
    return { loginServer: `https://${name ?? ip.text}`, token: readFileSync(token, "utf8").trim() };
  }

  /** Of the lab's authority, so that it can stand for a server with a public certificate. */
  #certificate(state: string, name: string): readonly string[] {
    const { cert, key } = this.#options.services.certificateFor(name);
    const [certFile, keyFile] = [join(state, "cert.pem"), join(state, "key.pem")];
    writeFileSync(certFile, cert);
    writeFileSync(keyFile, key, { mode: 0o600 });
    return ["--cert-file", certFile, "--key-file", keyFile];
  }

  /** The network of the stack's own coordination server, as its outputs would tell. @throws OperationError */
  async #joinTheStack(): Promise<Joining | undefined> {
    const { cloud, lab, fileOf } = this.#options;
    const server = cloud.instances.find(({ userData }) => userData.includes('"control": {'));
    if (server === undefined) {
      if (lab.topology.cast.clients.length === 0) return undefined;
      throw new OperationError(
        "lab-network",
        "the stack has no coordination server and the world has none, so nobody can join: add a host with the role control",
      );
    }
    const token = (await fileOf(server.namespace, "/var/lib/sallyport/join-token")).trim();
    const address = server.interfaces.find(({ publicIp }) => publicIp !== undefined)?.publicIp;
    return { loginServer: `https://${address ?? ""}`, token };
  }
}
