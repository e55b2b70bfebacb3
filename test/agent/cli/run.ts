import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "../../../agent/src/base/log.ts";
import { parseRfc3339 } from "../../../agent/src/base/rfc3339.ts";
import { wallTime } from "../../../agent/src/base/time.ts";
import type { Roles } from "../../../agent/src/cli/context.ts";
import type { LocalBackend } from "../../../agent/src/health/local-backend.ts";
import { unmappedSelf } from "../../../agent/src/health/status.ts";
import type { StatusJson } from "../../../agent/src/health/status-json.ts";
import { serveLocalApi } from "../../../agent/src/io/local-api-server.ts";
import { main } from "../../../agent/src/main.ts";

export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string;
  readonly interrupt?: AbortSignal;
  readonly roles?: Partial<Roles>;
  /** Called instead of waiting. */
  readonly onSleep?: (ms: number) => void;
  /** Called for each line on standard output. */
  readonly onOutput?: (text: string) => void;
}

/** Runs the program in this process, as from a shell, at a fixed time and without waiting. */
export async function run(args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  let [stdout, stderr] = ["", ""];
  const stdio = {
    stdin: streamOf(options.stdin ?? ""),
    stdout: {
      write: (text: string) => {
        stdout += text;
        options.onOutput?.(text);
      },
    },
    stderr: { write: (text: string) => (stderr += text) },
    interrupt: options.interrupt ?? new AbortController().signal,
  };
  const parts = {
    roles: { daemon: noRole, relay: noRole, control: noRole, wireguard: noRole, ...options.roles },
    calendar: { now: () => NOW },
    sleep: (ms: number) => Promise.resolve(options.onSleep?.(ms)),
  };
  // A test machine's own configuration must not matter.
  const env = { SALLYPORT_CONFIG: noConfig(), ...options.env };
  const code = await main(args, env, stdio, parts);
  return { code, stdout, stderr };
}

export const NOW = parseRfc3339("2026-11-22T09:03:46Z") ?? wallTime(0);

/** A folder of its own for each test file; removed at the end. */
export const folder = mkdtempSync(join(tmpdir(), "sallyport-test-"));
afterAll(() => rmSync(folder, { recursive: true }));

let served = 0;

/** Serves `backend` on a real socket while `use` runs with its path. */
export async function withDaemon<T>(
  backend: Partial<LocalBackend>,
  use: (socket: string) => Promise<T>,
): Promise<T> {
  const path = join(folder, `agent-${served++}.sock`);
  const server = await serveLocalApi({ path, backend: { ...absent, ...backend }, log: silentLog });
  try {
    return await use(path);
  } finally {
    await server.close();
  }
}

export const emptyStatus: StatusJson = {
  Version: "0",
  TUN: false,
  BackendState: "Running",
  HaveNodeKey: true,
  AuthURL: "",
  TailscaleIPs: [],
  Self: unmappedSelf("m0", "linux"),
  Health: [],
  MagicDNSSuffix: "",
  CurrentTailnet: null,
  CertDomains: null,
  ExtraRecords: null,
  Peer: null,
  User: null,
  ClientVersion: null,
};

const notAsked = (): never => {
  throw new Error("the test's backend was not made for this question");
};
const absent: LocalBackend = {
  status: notAsked,
  ping: notAsked,
  netcheck: notAsked,
  up: notAsked,
  set: notAsked,
  down: notAsked,
  logout: notAsked,
};
const noRole = (): Promise<never> => Promise.reject(new Error("the test's role was not made to start"));

function noConfig(): string {
  const path = join(folder, "empty.json");
  writeFileSync(path, "{}");
  return path;
}

async function* streamOf(text: string): AsyncGenerator<Uint8Array> {
  await Promise.resolve();
  yield new TextEncoder().encode(text);
}
