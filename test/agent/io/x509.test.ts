import { generateKeyPairSync, type KeyObject, sign, X509Certificate } from "node:crypto";
import { toHex } from "../../../agent/src/base/bytes.ts";
import { NodePublic } from "../../../agent/src/base/keys.ts";
import { wallTime } from "../../../agent/src/base/time.ts";
import { metaCertificate, metaKeyOf } from "../../../agent/src/io/tls-certificate.ts";
import { basicConstraints, certificateAuthority, encodeCertificate } from "../../../agent/src/io/x509.ts";
import { hex } from "../../vectors/load.ts";
import { derpVectors } from "../core/derp/support.ts";

const { meta_cert, keys } = derpVectors;
const published = new X509Certificate(hex(meta_cert.der));
const serverKey = NodePublic.parse(keys.server.public);
const now = wallTime(Date.UTC(2026, 10, 22, 8));

test("the published meta certificate is made again byte for byte", () => {
  const signature = hex(meta_cert.der).slice(-64);
  const made = encodeCertificate(
    {
      commonName: meta_cert.common_name,
      serial: Uint8Array.of(meta_cert.serial),
      notBefore: wallTime(Date.parse(published.validFrom)),
      notAfter: wallTime(Date.parse(published.validTo)),
      publicKey: published.publicKey.export({ format: "der", type: "spki" }),
      algorithm: "ed25519",
      extensions: [basicConstraints()],
    },
    () => signature,
  );
  expect(toHex(made)).toBe(meta_cert.der);
});

test("the relay's key is read from the published meta certificate", () => {
  expect(metaKeyOf(published)?.text).toBe(keys.server.public);
});

test("a meta certificate of ours is signed by its own key, valid 30 days around now, and tells the key", () => {
  const made = new X509Certificate(metaCertificate(serverKey, now));
  expect(made.verify(made.publicKey)).toBe(true);
  expect(metaKeyOf(made)?.text).toBe(serverKey.text);
  expect(Date.parse(made.validFrom)).toBe(now - 30 * 86_400_000);
  expect(Date.parse(made.validTo)).toBe(now + 30 * 86_400_000);
});

test("dates before and after 2050 are read back as they were", () => {
  for (const end of [Date.UTC(2049, 11, 31, 23, 59, 59), Date.UTC(2050, 0, 1)]) {
    const made = new X509Certificate(
      encodeCertificate(
        {
          commonName: "dates",
          serial: Uint8Array.of(0x80),
          notBefore: now,
          notAfter: wallTime(end),
          publicKey: published.publicKey.export({ format: "der", type: "spki" }),
          algorithm: "ed25519",
          extensions: [],
        },
        () => new Uint8Array(64),
      ),
    );
    expect(Date.parse(made.validTo)).toBe(end);
    expect(made.serialNumber).toBe("80");
  }
});

test("what an authority signs is trusted by who trusts the authority", () => {
  const [authority, host] = [0, 1].map(() => generateKeyPairSync("ec", { namedCurve: "P-256" }));
  if (authority === undefined || host === undefined) throw new Error("no keys");
  const issue = (commonName: string, key: KeyObject, extensions: readonly Uint8Array[]) =>
    new X509Certificate(
      encodeCertificate(
        {
          ...{ commonName, issuer: "authority", serial: Uint8Array.of(1), algorithm: "ecdsa-p256-sha256" },
          ...{ notBefore: now, notAfter: wallTime(now + 1000), extensions },
          publicKey: key.export({ format: "der", type: "spki" }),
        },
        (tbs) => sign("sha256", tbs, authority.privateKey),
      ),
    );
  const ca = issue("authority", authority.publicKey, certificateAuthority());
  const leaf = issue("host", host.publicKey, [basicConstraints()]);
  expect([ca.ca, leaf.ca]).toEqual([true, false]);
  expect(leaf.issuer).toBe("CN=authority");
  expect(leaf.checkIssued(ca)).toBe(true);
  expect(leaf.verify(authority.publicKey)).toBe(true);
  expect(leaf.verify(host.publicKey)).toBe(false);
});
