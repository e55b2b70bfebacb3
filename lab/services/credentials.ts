/**
 * The temporary credentials of instances, made when the metadata is asked for them and renewed before they end; and those of a
 * user who may do everything, for whom a person at a terminal stands.
 */
import { randomBytes } from "node:crypto";
import type { LabInstance } from "../cloud/cloud.ts";

/** Credentials, and whose they are. */
export interface Session {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** A user's long-lived credentials have none. */
  readonly sessionToken: string | undefined;
  readonly principal: Principal;
  /** Both in milliseconds since 1970. */
  readonly made: number;
  readonly expires: number;
}

export type Principal =
  | { readonly kind: "instance"; readonly role: string; readonly instanceId: string; readonly region: string }
  | { readonly kind: "user"; readonly name: string };

export interface CredentialsOptions {
  /** @default six hours, as on EC2 */
  readonly lifetimeMs?: number | undefined;
}

const LIFETIME_MS = 6 * 3_600_000;
/** AWS promises new ones at least five minutes before the old end; here it is this share of their life. */
const RENEWED_AFTER = 0.5;

export class Credentials {
  readonly user: Session = {
    accessKeyId: `AKIA${letters(16)}`,
    secretAccessKey: randomBytes(30).toString("base64"),
    sessionToken: undefined,
    principal: { kind: "user", name: "lab" },
    made: 0,
    expires: Number.POSITIVE_INFINITY,
  };
  readonly #lifetimeMs: number;
  readonly #sessions = new Map<string, Session>([[this.user.accessKeyId, this.user]]);
  /** By instance and role. */
  readonly #current = new Map<string, Session>();

  constructor({ lifetimeMs }: CredentialsOptions = {}) {
    this.#lifetimeMs = lifetimeMs ?? LIFETIME_MS;
  }

  /** Undefined where the instance has no role. */
  of(instance: LabInstance, now: number): Session | undefined {
    const { id: instanceId, role, region } = instance;
    if (role === undefined) return undefined;
    const current = this.#current.get(`${instanceId} ${role}`);
    if (current !== undefined && now < current.made + this.#lifetimeMs * RENEWED_AFTER) return current;
    const session: Session = {
      accessKeyId: `ASIA${letters(16)}`,
      secretAccessKey: randomBytes(30).toString("base64"),
      sessionToken: randomBytes(96).toString("base64"),
      principal: { kind: "instance", role, instanceId, region },
      made: now,
      expires: now + this.#lifetimeMs,
    };
    this.#current.set(`${instanceId} ${role}`, session);
    this.#sessions.set(session.accessKeyId, session);
    return session;
  }

  find(accessKeyId: string): Session | undefined {
    return this.#sessions.get(accessKeyId);
  }
}

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

function letters(count: number): string {
  return Array.from(randomBytes(count), (byte) => ALPHABET[byte % ALPHABET.length]).join("");
}
