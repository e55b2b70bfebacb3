/**
 * What must outlive the process: keys, the login server and what the user asked for.
 *
 * A file is replaced whole or not at all, so a power cut leaves the old one. A file that can
 * not be read is never overwritten: it may hold the only copy of a device's identity.
 */
import { randomBytes } from "node:crypto";
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import * as z from "zod";
import { OperationError } from "../base/errors.ts";
import { formatPrivateKey, MachinePrivate, NodePrivate, parsePrivateKey } from "../base/keys.ts";
import { codeOf } from "./system-error.ts";

/** What the user asked for with `up` and `down`. */
export interface DaemonPrefs {
  /** Whether the tunnel is to be up, also after a restart. */
  readonly wantRunning: boolean;
  readonly hostname: string | undefined;
  readonly advertiseExitNode: boolean;
  /** Networks that others may reach through this node, such as "10.1.0.0/16". */
  readonly advertiseRoutes: readonly string[];
  readonly forwardAccept: readonly string[];
  /** Whether the networks that others offer are reached through them. */
  readonly acceptRoutes: boolean;
  /** A peer's name or address, "auto", or none. */
  readonly exitNode: string | undefined;
  readonly exitNodeAllowLanAccess: boolean;
  /** DNS servers to ask through the exit node; none is the default ones. */
  readonly exitNodeDns: readonly string[];
  /** "sha256-raw:<hex>": pins the login server's certificate. */
  readonly certPin: string | undefined;
}

export interface DaemonState {
  readonly machineKey: MachinePrivate;
  readonly nodeKey: NodePrivate;
  readonly loginServer: string | undefined;
  readonly prefs: DaemonPrefs;
}

export const defaultPrefs: DaemonPrefs = {
  wantRunning: false,
  hostname: undefined,
  advertiseExitNode: false,
  advertiseRoutes: [],
  forwardAccept: [],
  acceptRoutes: false,
  exitNode: undefined,
  exitNodeAllowLanAccess: false,
  exitNodeDns: [],
  certPin: undefined,
};

/** The relay map as it was told last. */
export function keptRelayMapPath(stateDir: string): string {
  return join(stateDir, "relay-map.json");
}

export function daemonStatePath(stateDir: string): string {
  return join(stateDir, "agent-state.json");
}

/** @returns undefined where this device has no state yet. @throws OperationError when it is there and can not be used */
export async function loadDaemonState(stateDir: string): Promise<DaemonState | undefined> {
  const path = daemonStatePath(stateDir);
  const text = await readStateFile(path);
  return text === undefined ? undefined : parseDaemonState(path, text);
}

/** @throws OperationError */
export async function saveDaemonState(stateDir: string, state: DaemonState): Promise<void> {
  const stored: StoredState = {
    version: STATE_VERSION,
    machineKey: formatPrivateKey(state.machineKey),
    nodeKey: formatPrivateKey(state.nodeKey),
    loginServer: state.loginServer,
    prefs: state.prefs,
  };
  await writeFileAtomic(daemonStatePath(stateDir), `${JSON.stringify(stored, undefined, 2)}\n`);
}

/** Replaces a file as a whole, mode 0600; makes its directory (0700) if there is none. @throws OperationError */
export async function writeFileAtomic(path: string, data: string | Uint8Array): Promise<void> {
  const directory = dirname(path);
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    try {
      await writeSynced(temporary, data);
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
    await syncDirectory(directory);
  } catch (error) {
    throw new OperationError(
      "state-unwritable",
      `can not write ${path} (${codeOf(error)}): give a directory that this user may write to and that has space left`,
      { cause: error },
    );
  }
}

/** @returns undefined where there is no such file. @throws OperationError when it is there and can not be read */
export async function readStateFile(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw new OperationError(
      "state-unreadable",
      `can not read ${path} (${codeOf(error)}): run as the user who owns it, or name another directory`,
      { cause: error },
    );
  }
}

/** Raised when the form changes; a file of another version is refused, not guessed at. */
const STATE_VERSION = 1;

const storedState = z.strictObject({
  version: z.literal(STATE_VERSION),
  machineKey: z.string(),
  nodeKey: z.string(),
  loginServer: z.string().optional(),
  prefs: z.strictObject({
    wantRunning: z.boolean(),
    hostname: z.string().optional(),
    advertiseExitNode: z.boolean(),
    advertiseRoutes: z.array(z.string()).readonly().default([]),
    forwardAccept: z.array(z.string()).readonly().default([]),
    acceptRoutes: z.boolean().default(false),
    exitNode: z.string().optional(),
    exitNodeAllowLanAccess: z.boolean().default(false),
    exitNodeDns: z.array(z.string()).readonly().default([]),
    certPin: z.string().optional(),
  }),
});

type StoredState = z.infer<typeof storedState>;

function parseDaemonState(path: string, text: string): DaemonState {
  try {
    const stored = storedState.parse(JSON.parse(text));
    const { hostname, certPin, exitNode, ...prefs } = stored.prefs;
    return {
      machineKey: new MachinePrivate(parsePrivateKey(stored.machineKey)),
      nodeKey: new NodePrivate(parsePrivateKey(stored.nodeKey)),
      loginServer: stored.loginServer,
      prefs: { ...prefs, hostname, certPin, exitNode },
    };
  } catch {
    // No cause: a JSON error quotes the text around the fault, which may be a key.
    throw new OperationError(
      "state-corrupt",
      `${path} is damaged or of another version and was left as it is: restore it from a backup, ` +
        `or move it away to start anew as a new device`,
    );
  }
}

async function writeSynced(path: string, data: string | Uint8Array): Promise<void> {
  const file = await open(path, "wx", 0o600);
  try {
    await file.writeFile(data);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes the rename itself durable. Some file systems refuse to sync a directory; then it is theirs to order. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } catch {
    return;
  } finally {
    await directory.close();
  }
}
