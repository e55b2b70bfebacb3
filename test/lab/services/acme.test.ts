/** The lab's ACME directory, asked by the agent's own client. */
import {
  createPublicKey,
  generateKeyPairSync,
  randomBytes,
  sign,
  verify,
  X509Certificate,
} from "node:crypto";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect, createServer as createPlain } from "node:net";
import { LETS_ENCRYPT, newAccountKey, orderCertificate } from "../../../agent/src/io/acme.ts";
import { Acme, ACME_HOST } from "../../../lab/services/acme.ts";
import { Authority } from "../../../lab/services/authority.ts";
import { readRequest, writeAnswer } from "../../../lab/services/http.ts";
import { readSigningRequest } from "../../../lab/services/signing-request.ts";

const authority = new Authority(Date.now());
const root = new X509Certificate(authority.certPem);
let server: Server;
let directory: string;
let proofPort: number;
/** Where the directory's questions went. */
const asked: string[] = [];

beforeAll(async () => {
  proofPort = await freePort();
  server = createServer((message, response) => {
    void readRequest(message).then(async (request) => {
      if (request !== undefined) writeAnswer(await acme.answer(request), response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  directory = `${origin}/directory`;
  const acme = new Acme({
    ...{ authority, origin },
    resolve: (name) => (name === "node.example" ? ["203.0.113.7"] : undefined),
    connect: (ip, port) => {
      asked.push(`${ip}:${port}`);
      return connect(proofPort, "127.0.0.1");
    },
  });
});
afterAll(() => server.close());
beforeEach(() => asked.splice(0));

const order = async (name: string, port = proofPort) =>
  orderCertificate({
    ...{ directory, email: undefined, name, accountKey: await newAccountKey() },
    http: { host: "127.0.0.1", port },
  });

test("its name is that of the authority which the agent asks unless it is told otherwise", () => {
  expect(new URL(LETS_ENCRYPT).host).toBe(ACME_HOST);
});

test.each([
  ["node.example", "DNS:node.example", "203.0.113.7:80", 90],
  ["203.0.113.9", "IP Address:203.0.113.9", "203.0.113.9:80", 160 / 24],
])(
  "%s gets a certificate of the lab's authority, for the key that asked",
  async (name, subject, from, days) => {
    const { key, chain } = await order(name);
    const certificate = new X509Certificate(chain);
    expect(certificate.subjectAltName).toBe(subject);
    expect(certificate.verify(root.publicKey)).toBe(true);
    const [data, wanted] = [randomBytes(8), createPublicKey(key)];
    expect(verify("sha256", data, certificate.publicKey, sign("sha256", data, key))).toBe(true);
    expect(certificate.publicKey.equals(wanted)).toBe(true);
    expect(asked).toEqual([from]);
    const ends = Date.parse(certificate.validTo) - Date.now();
    expect(Math.abs(ends / 86_400_000 - days)).toBeLessThan(0.01);
  },
);

test("a name without an address, a closed port and another's proof get none", async () => {
  await expect(order("nobody.example")).rejects.toThrow(/no address for nobody\.example/);
  const closed = await freePort();
  await expect(order("node.example", closed)).rejects.toThrow(/node\.example: .*ECONNREFUSED/);
  const liar = createServer((_, response) => response.end("something.else"));
  await new Promise<void>((resolve) => liar.listen(proofPort, "127.0.0.1", resolve));
  await expect(order("node.example", closed)).rejects.toThrow(/shows another proof/);
  await new Promise((resolve) => liar.close(resolve));
});

test("what isn't signed, or signed with a nonce of its own, is a problem document", async () => {
  const at = directory.replace("directory", "new-account");
  const plain = await fetch(at, { method: "POST", body: "{}" });
  expect([plain.status, await plain.text()]).toEqual([400, expect.stringContaining("malformed")]);
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const encoded = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const jwk = publicKey.export({ format: "jwk" });
  const head = encoded({ alg: "ES256", nonce: "mine", url: at, jwk });
  const payload = encoded({ termsOfServiceAgreed: true });
  const signature = sign("sha256", Buffer.from(`${head}.${payload}`), {
    key: privateKey,
    dsaEncoding: "ieee-p1363",
  });
  const body = { protected: head, payload, signature: signature.toString("base64url") };
  const stale = await fetch(at, { method: "POST", body: JSON.stringify(body) });
  expect(await stale.text()).toContain("badNonce");
  const altered = { ...body, payload: encoded({ termsOfServiceAgreed: false }) };
  const forged = await fetch(at, { method: "POST", body: JSON.stringify(altered) });
  expect([forged.status, await forged.text()]).toEqual([403, expect.stringContaining("unauthorized")]);
});

test("any bytes are no signing request, and none throws", () => {
  for (let i = 0; i < 500; i++) expect(readSigningRequest(randomBytes(i % 80))).toBeUndefined();
  expect(readSigningRequest(Uint8Array.of(0x30, 0x84, 0xff, 0xff, 0xff, 0xff))).toBeUndefined();
});

async function freePort(): Promise<number> {
  const probe = createPlain();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}
