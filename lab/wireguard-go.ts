/** wireguard-go, to compare with and to talk to: its keys and its settings. */
import { createPrivateKey, createPublicKey, randomBytes } from "node:crypto";
import { connect } from "node:net";
import { sleep } from "./system.ts";

export interface WireGuardKey {
  readonly secret: Buffer;
  readonly public: Buffer;
}

export function newWireGuardKey(): WireGuardKey {
  const secret = randomBytes(32);
  secret[0] = (secret[0] ?? 0) & 248;
  secret[31] = ((secret[31] ?? 0) & 127) | 64;
  const key = createPrivateKey({ key: Buffer.concat([PKCS8_X25519, secret]), format: "der", type: "pkcs8" });
  return { secret, public: createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32) };
}

/** PKCS #8's wrapping of 32 bytes (RFC 8410). */
const PKCS8_X25519 = Buffer.from("302e020100300506032b656e04220420", "hex");

/** Where it listens for its settings. */
export function socketOf(device: string): string {
  return `/var/run/wireguard/${device}.sock`;
}

/** The socket's file is there before anybody listens on it. */
const ATTEMPTS = 50;
const RETRY_MS = 20;

/** By the protocol of https://www.wireguard.com/xplatform/. @throws Error where it refuses */
export async function configureWireGuard(device: string, settings: readonly string[]): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await tell(socketOf(device), settings);
      return;
    } catch (error) {
      const isEarly = error instanceof Error && "code" in error && error.code === "ECONNREFUSED";
      if (!isEarly || attempt === ATTEMPTS) throw error;
    }
    await sleep(RETRY_MS);
  }
}

function tell(socket: string, settings: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const connection = connect(socket);
    connection.on("error", reject);
    connection.on("data", (answer) => {
      connection.end();
      if (answer.toString().includes("errno=0")) resolve();
      else reject(new Error(`wireguard-go refused its settings: ${answer.toString().trim()}`));
    });
    connection.write(`set=1\n${settings.join("\n")}\n\n`);
  });
}
