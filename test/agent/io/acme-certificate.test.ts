import { generateKeyPairSync, sign, X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Ip } from "../../../agent/src/base/address.ts";
import { type Log, silentLog } from "../../../agent/src/base/log.ts";
import { type WallTime, wallTime } from "../../../agent/src/base/time.ts";
import type { AcmeOrder, IssuedCertificate } from "../../../agent/src/io/acme.ts";
import {
  type AcmeCertificate,
  type AcmeCertificateOptions,
  keepAcmeCertificate,
  renewalTime,
} from "../../../agent/src/io/acme-certificate.ts";
import { encodeCertificate, subjectAlternativeNames, toPem } from "../../../agent/src/io/x509.ts";

let stateDir: string;
let running: AcmeCertificate[];
beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), "sallyport-acme-"));
  running = [];
});
afterEach(() => {
  for (const one of running) one.close();
  rmSync(stateDir, { recursive: true });
});

const DAY = 86_400_000;
const T0 = Date.UTC(2026, 0, 1);

function issue(from: number, days: number): IssuedCertificate {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const fields = {
    ...{ commonName: "x", serial: Uint8Array.of(7), notBefore: wallTime(from) },
    ...{ notAfter: wallTime(from + days * DAY), algorithm: "ecdsa-p256-sha256" as const },
    publicKey: publicKey.export({ format: "der", type: "spki" }),
    extensions: [subjectAlternativeNames([], [Ip.parse("198.51.100.7")])],
  };
  const chain = toPem(
    "CERTIFICATE",
    encodeCertificate(fields, (tbs) => sign("sha256", tbs, privateKey)),
  );
  return { key: privateKey.export({ format: "pem", type: "pkcs8" }).toString(), chain };
}

/** Keeps a certificate until the first is there, or until so many orders were made. */
async function keep(
  order: (asked: AcmeOrder, count: number) => IssuedCertificate | Error,
  { now = T0, until, ...given }: { now?: number; until?: number } & Partial<AcmeCertificateOptions> = {},
): Promise<{ readonly kept: AcmeCertificate; readonly orders: readonly AcmeOrder[] }> {
  const orders: AcmeOrder[] = [];
  let finished = (): void => {};
  const done = new Promise<void>((resolve) => (finished = resolve));
  const kept = await keepAcmeCertificate({
    ...{
      directory: "https://ca.example/dir",
      email: undefined,
      httpPort: 80,
      name: "198.51.100.7",
      host: "::",
    },
    ...{ stateDir, calendar: { now: (): WallTime => wallTime(now) }, log: silentLog, retryMs: 1 },
    onCertificate: () => until === undefined && finished(),
    order: (asked) => {
      const answer = order(asked, orders.push(asked));
      if (orders.length === until) setImmediate(finished);
      return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
    },
    ...given,
  });
  running.push(kept);
  await done;
  return { kept, orders };
}

test("a certificate is renewed after two thirds of its life", () => {
  const { chain } = issue(T0, 90);
  expect(renewalTime(new X509Certificate(chain))).toBe(T0 + 60 * DAY);
});

test("the first one is asked for at once and kept, with the account's key, where only its user reads it", async () => {
  const issued = issue(T0, 90);
  const { kept, orders } = await keep(() => issued);
  expect(orders).toHaveLength(1);
  expect(kept.current?.keyPem).toBe(issued.key);
  const file = join(stateDir, "acme.json");
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({
    certificate: issued,
    accountKey: orders[0]?.accountKey,
  });
});

test("after a restart the kept one serves and nobody is asked; when it is old, the same account asks again", async () => {
  const first = await keep(() => issue(T0, 90));
  const again = await keepAcmeCertificate({
    ...{
      directory: "https://ca.example/dir",
      email: undefined,
      httpPort: 80,
      name: "198.51.100.7",
      host: "::",
    },
    ...{
      stateDir,
      calendar: { now: () => wallTime(T0 + 59 * DAY) },
      log: silentLog,
      onCertificate: () => {},
    },
    order: () => Promise.reject(new Error("nobody is to be asked")),
  });
  running.push(again);
  expect(again.current?.pin).toBe(first.kept.current?.pin);
  const renewed = await keep(() => issue(T0 + 61 * DAY, 90), { now: T0 + 61 * DAY });
  expect(renewed.orders.map(({ accountKey }) => accountKey)).toEqual([first.orders[0]?.accountKey]);
  expect(renewed.kept.current?.pin).not.toBe(first.kept.current?.pin);
});

test("failures are said once, tried again, and the old certificate serves on", async () => {
  const first = await keep(() => issue(T0, 90));
  const said: string[] = [];
  const log: Log = { ...silentLog, warn: (event) => said.push(event), info: (event) => said.push(event) };
  const fresh = issue(T0 + 61 * DAY, 90);
  const pins: (string | undefined)[] = [];
  const { kept, orders } = await keep((_, count) => (count < 4 ? new Error("rate limited") : fresh), {
    ...{ now: T0 + 61 * DAY, log },
  });
  pins.push(kept.current?.pin);
  expect(orders).toHaveLength(4);
  expect(said).toEqual(["acme-failed", "acme-certificate"]);
  expect(pins).not.toContain(first.kept.current?.pin);
});

test("another authority gets another account, another name the same account", async () => {
  const first = await keep(() => issue(T0, 90));
  const name = await keep(() => issue(T0, 90), { name: "relay.example.com" });
  expect(name.orders[0]).toMatchObject({
    name: "relay.example.com",
    accountKey: first.orders[0]?.accountKey,
  });
  const authority = await keep(() => issue(T0, 90), {
    name: "relay.example.com",
    directory: "https://other.example/",
  });
  expect(authority.orders[0]?.accountKey).not.toBe(first.orders[0]?.accountKey);
});

test("a damaged file is left as it is, and its content not repeated", async () => {
  const file = join(stateDir, "acme.json");
  writeFileSync(file, '{"accountKey":"SECRET"');
  const failed = await keep(() => new Error("")).catch((error: unknown) => error);
  expect(String(failed)).toMatch(/acme.json is damaged and was left as it is/);
  expect(JSON.stringify(failed, Object.getOwnPropertyNames(failed))).not.toContain("SECRET");
  expect(readFileSync(file, "utf8")).toContain("SECRET");
});
