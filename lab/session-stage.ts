/** The stage of namespaces: the stack as `lab up` builds it, where every agent is a process of its own. */
import { OperationError } from "../agent/src/base/errors.ts";
import type { Session } from "./session.ts";
import { type CommandResult, type ExitStage, type Stage, START_TIMEOUT_MS } from "./stage.ts";
import { exitNodeOf } from "./topology.ts";
import { seenBy } from "./web.ts";

/** Of the web server on the exit node, inside the tunnel. */
const HTTP_PORT = 8080;

export class SessionStage implements Stage {
  readonly exit: ExitStage;
  readonly #session: Session;
  readonly #self: readonly string[];

  /** @param self the command that runs this program again */
  constructor(session: Session, self: readonly string[]) {
    this.#session = session;
    this.#self = self;
    const { natGateways } = session.cloud.read.model;
    const { publicIp } = exitNodeOf(session.lab.topology.cast);
    const [gateway] = natGateways;
    this.exit = {
      ip: (gateway?.publicIp ?? publicIp).text,
      whose: gateway === undefined ? "the exit node's own address" : "the NAT gateway's address",
      ask: (host, node, say) => this.#askExit(host, node, say),
    };
  }

  async start(): Promise<void> {
    const { lab } = this.#session;
    const web = lab.start(exitNodeOf(lab.topology.cast).namespace, {
      name: "web-server",
      command: [...this.#self, "http-server", String(HTTP_PORT)],
    });
    await web.readyLine(/^listening/, START_TIMEOUT_MS);
  }

  command(host: string, args: readonly string[], onLine?: (line: string) => void): Promise<CommandResult> {
    return this.#session.command(host, args, onLine);
  }

  async probe(host: string, address: string, say: (line: string) => void): Promise<boolean> {
    let arrived = true;
    for (const command of [
      ["icmp", address],
      ["http-get", `http://${address}:${HTTP_PORT}/`],
    ]) {
      say(`$ ${command.join(" ")}`);
      const { code, lines } = await this.#session.probe(host, command);
      for (const line of lines) say(line);
      arrived = code === 0 && arrived;
    }
    return arrived;
  }

  async #askExit(host: string, node: string, say: (line: string) => void): Promise<string | undefined> {
    const web = this.#session.lab.topology.cast.web?.ip.text;
    if (web === undefined) throw new OperationError("lab-web", "the lab's world has no web server");
    const choice = ["set", `--exit-node=${node}`];
    say(`$ sallyport ${choice.join(" ")}`);
    await this.#session.command(host, choice, say);
    say(`$ http-get http://${web}/`);
    const { lines } = await this.#session.probe(host, ["http-get", `http://${web}/`]);
    for (const line of lines) say(line);
    return seenBy(lines);
  }
}
