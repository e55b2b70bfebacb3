/** Where the story plays: hosts with daemons, reached by name. Namespaces are one stage, loopback sockets the other. */
import { OperationError } from "../agent/src/base/errors.ts";
import { NAT_TEXT, type NatKind } from "./firewall.ts";
import { sleep } from "./system.ts";

export interface Stage {
  /** Starts relay, coordination server and all daemons; each is told when it is ready. @throws OperationError */
  start(say: (line: string) => void): Promise<void>;
  /** Runs `sallyport ARGS` against the daemon of a host. */
  command(host: string, args: readonly string[], onLine?: (line: string) => void): Promise<CommandResult>;
  /** Sends packets of the host's own programs through the tunnel; whether they arrived. Undefined where there is no kernel's tunnel. */
  readonly probe:
    ((host: string, address: string, say: (line: string) => void) => Promise<boolean>) | undefined;
  /** Where exit traffic should leave; undefined where there is no kernel's tunnel. */
  readonly exit: ExitStage | undefined;
}

export interface ExitStage {
  /** The address that the internet should see. */
  readonly ip: string;
  /** "the NAT gateway's address". */
  readonly whose: string;
  /** Sends a host's traffic by the node called `node`; returns the address that the internet sees. */
  ask(host: string, node: string, say: (line: string) => void): Promise<string | undefined>;
}

export interface CommandResult {
  readonly code: number;
  /** Both outputs. */
  readonly lines: readonly string[];
}

/** The part of `sallyport status --json` that the story reads. */
export interface StatusJson {
  readonly BackendState?: string;
  readonly Self?: PeerJson | null;
  readonly Peer?: Readonly<Record<string, PeerJson>> | null;
}

export interface PeerJson {
  readonly HostName?: string;
  readonly TailscaleIPs?: readonly string[] | null;
  /** Empty unless the connection is direct. */
  readonly CurAddr?: string;
  readonly Relay?: string;
}

/** Empty when the daemon doesn't answer. */
export async function readStatus(stage: Pick<Stage, "command">, host: string): Promise<StatusJson> {
  const { lines } = await stage.command(host, ["status", "--json"]);
  try {
    return JSON.parse(lines.join("\n")) as StatusJson;
  } catch {
    return {};
  }
}

/** Returns when the daemon has its place in the network. @throws OperationError with `lastWords` when it takes too long */
export async function untilRunning(
  status: () => Promise<StatusJson>,
  host: string,
  lastWords: () => string,
  timeoutMs = START_TIMEOUT_MS,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while ((await status()).BackendState !== "Running") {
    if (performance.now() > deadline) {
      const said = lastWords();
      throw new OperationError("lab-daemon", `${host} did not register in time; its last words:\n  ${said}`);
    }
    await sleep(POLL_MS);
  }
}

export const START_TIMEOUT_MS = 15_000;
const POLL_MS = 20;

export function describeHost(name: string, nat: NatKind | "none"): string {
  return nat === "none" ? `${name} with a public address` : `${name} behind ${NAT_TEXT[nat]}`;
}

/** Tells what was waited for and how long it took. */
export async function timed<T>(say: (line: string) => void, what: string, work: Promise<T>): Promise<T> {
  const start = performance.now();
  const result = await work;
  say(`  ${what.padEnd(52)} ${((performance.now() - start) / 1000).toFixed(1)} s`);
  return result;
}
