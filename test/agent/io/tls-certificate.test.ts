import { createHash, X509Certificate } from "node:crypto";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Calendar, wallTime } from "../../../agent/src/base/time.ts";
import { coversName, readCertificate, selfSignedCertificate } from "../../../agent/src/io/tls-certificate.ts";

const DAY = 86_400_000;
const start = Date.UTC(2026, 10, 22);
const calendarAt = (ms: number): Calendar => ({ now: () => wallTime(ms) });
const names = ["relay.example.net", "203.0.113.10", "2001:db8::10"];

let stateDir = "";
beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), "sallyport-tls-"));
});
afterEach(() => rm(stateDir, { recursive: true }));

const made = (ms = start, of = names) =>
  selfSignedCertificate({ stateDir, names: of, calendar: calendarAt(ms) });

test("a certificate is made for all names, is pinned by its hash and lasts ten years", async () => {
  const { certPem, keyPem, pin, notAfter } = await made();
  const leaf = new X509Certificate(certPem);
  expect(names.map((name) => coversName(leaf, name))).toEqual([true, true, true]);
  expect(coversName(leaf, "other.example.net")).toBe(false);
  expect(coversName(leaf, "203.0.113.11")).toBe(false);
  expect(leaf.verify(leaf.publicKey)).toBe(true);
  expect(pin).toBe(`sha256-raw:${createHash("sha256").update(leaf.raw).digest("hex")}`);
  expect(notAfter).toBe(start + 3650 * DAY);
  expect(keyPem).toContain("PRIVATE KEY");
});

test("it is kept, in a file for its owner alone", async () => {
  const first = await made();
  expect(await made(start + 3000 * DAY)).toEqual(first);
  expect((await stat(join(stateDir, "tls.pem"))).mode & 0o777).toBe(0o600);
});

test.each([
  { name: "30 days before its end", ms: start + 3621 * DAY, of: names },
  { name: "for a name that it lacks", ms: start, of: [...names, "new.example.net"] },
])("it is made anew $name, with the same key", async ({ ms, of }) => {
  const first = await made();
  const second = await made(ms, of);
  expect(second.pin).not.toBe(first.pin);
  expect(second.keyPem).toBe(first.keyPem);
});

test.each([
  { name: "cut short", damage: (text: string) => text.slice(0, text.length / 2) },
  { name: "empty", damage: () => "" },
  { name: "something else", damage: () => "hello" },
])("a file that is $name is named with the remedy, and left as it is", async ({ damage }) => {
  await made();
  const path = join(stateDir, "tls.pem");
  const damaged = damage(await readFile(path, "utf8"));
  await writeFile(path, damaged);
  await expect(made()).rejects.toMatchObject({
    code: "state-corrupt",
    message: expect.stringMatching(new RegExp(`${path} is damaged.*remove it`)),
  });
  expect(await readFile(path, "utf8")).toBe(damaged);
});

describe("certificate files", () => {
  const files = async (): Promise<[string, string]> => {
    const { certPem, keyPem } = await made();
    const [certFile, keyFile] = [join(stateDir, "cert.pem"), join(stateDir, "key.pem")];
    await writeFile(certFile, certPem);
    await writeFile(keyFile, keyPem);
    return [certFile, keyFile];
  };

  test("are read", async () => {
    const [certFile, keyFile] = await files();
    const { pin, certPem, keyPem } = await made();
    expect(await readCertificate(certFile, keyFile)).toMatchObject({ pin, certPem, keyPem });
  });

  test.each([
    { fault: "ENOENT", change: (cert: string) => rm(cert) },
    { fault: "no certificate in PEM form", change: (cert: string) => writeFile(cert, "x") },
    { fault: "no private key in PEM form", change: (_: string, key: string) => writeFile(key, "x") },
    {
      fault: "belongs to another certificate",
      change: async (_: string, key: string) => {
        await rm(join(stateDir, "tls.pem"));
        await writeFile(key, (await made()).keyPem);
      },
    },
  ])("that can not be used are named: $fault", async ({ fault, change }) => {
    const [certFile, keyFile] = await files();
    await change(certFile, keyFile);
    await expect(readCertificate(certFile, keyFile)).rejects.toMatchObject({
      code: "tls-certificate",
      message: expect.stringContaining(fault),
    });
  });
});
