/** A Unix socket that only this user may reach: how the commands talk to a running process. */
import { lstat, mkdir, rm } from "node:fs/promises";
import { createConnection, type Server } from "node:net";
import { dirname } from "node:path";
import { OperationError } from "../base/errors.ts";
import { codeOf } from "./system-error.ts";

/**
 * Listens at `path`, mode 0600. A socket that a dead process left is replaced; a living one is not.
 * @param role for the error's text, such as "daemon"
 * @throws OperationError
 */
export async function listenPrivately(server: Server, path: string, role: string): Promise<void> {
  if (Buffer.byteLength(path) > LONGEST_PATH) {
    throw new OperationError(
      "socket-path",
      `${path} is too long for a Unix socket: give --socket a path of at most ${LONGEST_PATH} bytes`,
    );
  }
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await listenOrReplace(server, path, role);
  } catch (error) {
    if (error instanceof OperationError) throw error;
    throw new OperationError(
      "socket-unusable",
      `can not listen on ${path} (${codeOf(error)}): run as a user who may write there, or give --socket another path`,
      { cause: error },
    );
  }
}

/** sun_path of unix(7) has 108 bytes on Linux and 104 on macOS, with the final zero. */
const LONGEST_PATH = 103;

async function listenOrReplace(server: Server, path: string, role: string): Promise<void> {
  try {
    return await listen(server, path);
  } catch (error) {
    if (codeOf(error) !== "EADDRINUSE") throw error;
  }
  if (await isAnswered(path)) {
    throw new OperationError(
      "already-running",
      `another ${role} is already running on ${path}: stop it or give --socket another path`,
    );
  }
  const found = await lstat(path).catch(() => undefined);
  if (found !== undefined && !found.isSocket()) {
    throw new OperationError("socket-taken", `${path} is not a socket: give --socket another path`);
  }
  await rm(path, { force: true });
  await listen(server, path);
}

/** The mask holds while the system makes the socket, so it is never open to others, not even for a moment. */
function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const mask = process.umask(0o177);
    try {
      server.once("error", reject);
      server.listen(path, () => {
        server.removeListener("error", reject);
        resolve();
      });
    } finally {
      process.umask(mask);
    }
  });
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
