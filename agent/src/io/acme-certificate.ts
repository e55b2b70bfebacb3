/**
 * Keeps a certificate from an authority: the one in the state directory at first, a new one when two thirds of its life are
 * over. While the authority can not be had the old one goes on serving, and the trying goes on with longer and longer pauses.
 */
import { X509Certificate } from "node:crypto";
import { join } from "node:path";
import * as z from "zod";
import { OperationError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { type Calendar, type WallTime, wallTime } from "../base/time.ts";
import { type IssuedCertificate, newAccountKey, orderCertificate } from "./acme.ts";
import { readStateFile, writeFileAtomic } from "./state-store.ts";
import { pinOf, type TlsCertificate } from "./tls-certificate.ts";

export interface AcmeSettings {
  readonly directory: string;
  readonly email: string | undefined;
  readonly httpPort: number;
}

export interface AcmeCertificateOptions extends AcmeSettings {
  /** A DNS name or an IP address. */
  readonly name: string;
  /** Where the authority's question is listened for. */
  readonly host: string;
  readonly stateDir: string;
  readonly calendar: Calendar;
  readonly log: Log;
  /** A new certificate is to be served from now on. */
  readonly onCertificate: (certificate: TlsCertificate) => void;
  /** Asks the authority. */
  readonly order?: typeof orderCertificate;
  /** The pause after the first failure. */
  readonly retryMs?: number;
}

export interface AcmeCertificate {
  /** Undefined until the authority has given the first one. */
  readonly current: TlsCertificate | undefined;
  close(): void;
}

const FILE = "acme.json";
/** Let's Encrypt takes five failed proofs an hour for a name: with doubled pauses there are five. */
const FIRST_RETRY_MS = 120_000;
const LONGEST_RETRY_MS = 6 * 3_600_000;
/** A calendar may be set, a machine may sleep: it is looked at again at the latest after an hour. */
const LONGEST_WAIT_MS = 3_600_000;

/** @throws OperationError where the state directory can not be used */
export async function keepAcmeCertificate(options: AcmeCertificateOptions): Promise<AcmeCertificate> {
  const keeper = new Keeper(options, await load(options));
  keeper.start();
  return keeper;
}

/** When a certificate is to be replaced: the authority's advice, and room for a third of its life of failures. */
export function renewalTime(certificate: X509Certificate): WallTime {
  const [from, to] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)];
  return wallTime(from + ((to - from) * 2) / 3);
}

const stored = z.strictObject({
  version: z.literal(1),
  directory: z.string(),
  name: z.string(),
  accountKey: z.string(),
  certificate: z.strictObject({ key: z.string(), chain: z.string() }).optional(),
});
type Stored = z.infer<typeof stored>;

class Keeper implements AcmeCertificate {
  readonly #options: AcmeCertificateOptions;
  readonly #path: string;
  #state: Stored;
  #timer: NodeJS.Timeout | undefined;
  #failures = 0;
  #closed = false;

  constructor(options: AcmeCertificateOptions, state: Stored) {
    this.#options = options;
    this.#path = join(options.stateDir, FILE);
    this.#state = state;
  }

  get current(): TlsCertificate | undefined {
    const { certificate } = this.#state;
    return certificate === undefined ? undefined : described(certificate);
  }

  start(): void {
    this.#wait(this.#untilDue());
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #untilDue(): number {
    const { certificate } = this.#state;
    if (certificate === undefined) return 0;
    return renewalTime(new X509Certificate(certificate.chain)) - this.#options.calendar.now();
  }

  #wait(ms: number): void {
    if (this.#closed) return;
    const isDue = ms <= LONGEST_WAIT_MS;
    this.#timer = setTimeout(
      () => (isDue ? void this.#renew() : this.#wait(this.#untilDue())),
      Math.max(0, Math.min(ms, LONGEST_WAIT_MS)),
    );
    this.#timer.unref();
  }

  async #renew(): Promise<void> {
    const { name, log, directory, email, host, httpPort, order = orderCertificate } = this.#options;
    const { accountKey } = this.#state;
    try {
      const http = { host, port: httpPort };
      const certificate = await order({ directory, email, name, accountKey, http });
      const fresh = described(certificate);
      this.#state = { ...this.#state, certificate };
      await writeFileAtomic(this.#path, `${JSON.stringify(this.#state, undefined, 2)}\n`);
      log.info("acme-certificate", { name, until: new Date(fresh.notAfter).toISOString() });
      this.#failures = 0;
      if (!this.#closed) this.#options.onCertificate(fresh);
      this.#wait(this.#untilDue());
    } catch (error) {
      this.#failed(error);
    }
  }

  /** Said once for each row of failures. */
  #failed(error: unknown): void {
    const { name, log, retryMs = FIRST_RETRY_MS } = this.#options;
    const pause = Math.min(retryMs * 2 ** this.#failures, LONGEST_RETRY_MS);
    const fields = { name, error: error instanceof Error ? error.message : String(error), pause };
    if (this.#failures++ === 0) log.warn("acme-failed", fields);
    else log.debug("acme-failed-again", fields);
    if (this.#closed) return;
    this.#timer = setTimeout(() => void this.#renew(), pause);
    this.#timer.unref();
  }
}

/** For another name or authority everything is begun anew: an account belongs to one authority. */
async function load({ stateDir, directory, name }: AcmeCertificateOptions): Promise<Stored> {
  const path = join(stateDir, FILE);
  const text = await readStateFile(path);
  const found = text === undefined ? undefined : parse(text, path);
  if (found?.directory === directory) {
    if (found.name === name) return found;
    const { certificate: _, ...account } = found;
    return { ...account, name };
  }
  const state: Stored = { version: 1, directory, name, accountKey: await newAccountKey() };
  await writeFileAtomic(path, `${JSON.stringify(state, undefined, 2)}\n`);
  return state;
}

function parse(text: string, path: string): Stored {
  try {
    const state = stored.parse(JSON.parse(text));
    if (state.certificate !== undefined) described(state.certificate);
    return state;
  } catch {
    // No cause: it quotes the text around the fault, which may be a key.
    throw new OperationError(
      "state-corrupt",
      `${path} is damaged and was left as it is: restore it from a backup, or remove it to ask for a new certificate`,
    );
  }
}

function described({ key, chain }: IssuedCertificate): TlsCertificate {
  const leaf = new X509Certificate(chain);
  const notAfter = wallTime(Date.parse(leaf.validTo));
  return { keyPem: key, certPem: chain.trimEnd() + "\n", pin: pinOf(leaf.raw), notAfter };
}
