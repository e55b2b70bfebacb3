import { createHash, createHmac } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readParameter, readSecret, writeParameter } from "../../../agent/src/io/aws-secrets.ts";

/** What one request brought. */
interface Seen {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

let server: Server;
let seen: Seen[];
let answer: { status: number; body: object };
let folder: string;
const before = { ...process.env };

beforeEach(async () => {
  [seen, answer] = [[], { status: 200, body: {} }];
  folder = mkdtempSync(join(tmpdir(), "sallyport-aws-"));
  server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => (body += String(chunk)));
    request.on("end", () => {
      const path = request.url ?? "";
      seen.push({ path, headers: request.headers, body });
      const said = METADATA[path];
      if (said !== undefined) response.end(said);
      else if (!isSigned(request.headers, body, request.headers["x-amz-security-token"] as string)) {
        response.writeHead(403).end(JSON.stringify({ __type: "InvalidSignatureException" }));
      } else {
        response.writeHead(answer.status, { "content-type": "application/x-amz-json-1.1" });
        response.end(JSON.stringify(answer.body));
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  for (const name of Object.keys(process.env).filter((one) => one.startsWith("AWS_")))
    delete process.env[name];
  Object.assign(process.env, {
    ...{ AWS_ENDPOINT_URL: endpoint, AWS_EC2_METADATA_SERVICE_ENDPOINT: endpoint },
    // None of whoever runs the tests.
    ...{ AWS_CONFIG_FILE: join(folder, "config"), AWS_SHARED_CREDENTIALS_FILE: join(folder, "credentials") },
  });
});
afterEach(async () => {
  process.env = { ...before };
  rmSync(folder, { recursive: true });
  await new Promise((resolve) => server.close(resolve));
});

const SECRET_KEY = "very-secret";
const METADATA: Readonly<Record<string, string>> = {
  "/latest/api/token": "TOKEN",
  "/latest/meta-data/placement/region": "eu-west-1",
  "/latest/meta-data/iam/security-credentials/": "role",
  "/latest/meta-data/iam/security-credentials/role": JSON.stringify({
    ...{ Code: "Success", AccessKeyId: "AKIDEXAMPLE", SecretAccessKey: SECRET_KEY, Token: "SESSION" },
    Expiration: "2999-01-01T00:00:00Z",
  }),
};

/** As AWS checks it: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html */
function isSigned(headers: IncomingHttpHeaders, body: string, sessionToken: string | undefined): boolean {
  const pattern =
    /^AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE\/(\d{8})\/([^/]+)\/(\w+)\/aws4_request, SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$/;
  const [, day = "", region = "", service = "", signed = "", signature] =
    pattern.exec(headers.authorization ?? "") ?? [];
  const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");
  const hmac = (key: string | Buffer, text: string) => createHmac("sha256", key).update(text).digest();
  const lines = signed.split(";").map((name) => `${name}:${String(headers[name])}`);
  const canonical = ["POST", "/", "", ...lines, "", signed, sha256(body)].join("\n");
  const scope = `${day}/${region}/${service}/aws4_request`;
  const text = ["AWS4-HMAC-SHA256", headers["x-amz-date"], scope, sha256(canonical)].join("\n");
  const key = [day, region, service, "aws4_request"].reduce<string | Buffer>(hmac, `AWS4${SECRET_KEY}`);
  return (
    (sessionToken === undefined || signed.includes("x-amz-security-token")) &&
    hmac(key, text).toString("hex") === signature
  );
}

test("a parameter is asked for decrypted, as the instance's role and in its region", async () => {
  answer = { status: 200, body: { Parameter: { Value: "key" } } };
  expect(await readParameter("/a/b")).toBe("key");
  const asked = seen.at(-1);
  expect(JSON.parse(asked?.body ?? "")).toEqual({ Name: "/a/b", WithDecryption: true });
  expect(asked?.headers).toMatchObject({
    "x-amz-target": "AmazonSSM.GetParameter",
    "x-amz-security-token": "SESSION",
    authorization: expect.stringMatching(/Credential=AKIDEXAMPLE\/\d{8}\/eu-west-1\/ssm\/aws4_request/),
  });
});

test("metadata is asked with a token", async () => {
  answer = { status: 200, body: { Parameter: { Value: "key" } } };
  await readParameter("p");
  const asked = seen.filter(({ path }) => path.startsWith("/latest/meta-data"));
  expect(asked.length).toBeGreaterThan(2);
  for (const { headers } of asked) expect(headers["x-aws-ec2-metadata-token"]).toBe("TOKEN");
});

test("variables and profiles come before the instance: region and keys are theirs", async () => {
  answer = { status: 200, body: { Parameter: { Value: "key" } } };
  writeFileSync(join(folder, "config"), "[profile mine]\nregion = ap-south-1\n");
  writeFileSync(
    join(folder, "credentials"),
    `[mine]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = ${SECRET_KEY}\n`,
  );
  process.env["AWS_PROFILE"] = "mine";
  expect(await readParameter("p")).toBe("key");
  expect(seen).toHaveLength(1);
  expect(seen[0]?.headers.authorization).toContain("/ap-south-1/ssm/");
  expect(seen[0]?.headers["x-amz-security-token"]).toBeUndefined();
});

test("a parameter of another region is asked for there, by its ARN", async () => {
  answer = { status: 200, body: { Parameter: { Value: "key" } } };
  const arn = "arn:aws:ssm:ap-south-1:123456789012:parameter/a/b";
  expect(await readParameter(arn)).toBe("key");
  expect(JSON.parse(seen.at(-1)?.body ?? "")).toMatchObject({ Name: arn });
  expect(seen.at(-1)?.headers.authorization).toContain("/ap-south-1/ssm/");
});

test("a secret is read, and a parameter overwritten as a SecureString", async () => {
  answer = { status: 200, body: { SecretString: "s3" } };
  expect(await readSecret("arn:aws:secretsmanager:eu-west-1:1:secret:x")).toBe("s3");
  await writeParameter("/a", "value");
  expect(JSON.parse(seen.at(-1)?.body ?? "")).toEqual({
    ...{ Name: "/a", Value: "value", Type: "SecureString", Overwrite: true },
  });
});

test("a refusal names its kind, and neither key nor answer", async () => {
  answer = { status: 400, body: { __type: "x#AccessDeniedException", Message: SECRET_KEY } };
  const refused = await readParameter("p").catch((error: unknown) => error);
  expect(String(refused)).toMatch(/the parameter p \(AccessDeniedException\)/);
  expect(JSON.stringify(refused, Object.getOwnPropertyNames(refused))).not.toContain(SECRET_KEY);
});

test("a wrong key of one's own is a refusal", async () => {
  Object.assign(process.env, { AWS_ACCESS_KEY_ID: "AKIDEXAMPLE", AWS_SECRET_ACCESS_KEY: "another" });
  await expect(readParameter("p")).rejects.toThrow("InvalidSignatureException");
});

test("off AWS it says what is missing: the region first, then credentials", async () => {
  process.env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://127.0.0.1:1";
  await expect(readParameter("p")).rejects.toThrow("set AWS_REGION, or run this on an EC2 instance");
  process.env["AWS_REGION"] = "eu-west-1";
  await expect(readParameter("p")).rejects.toThrow("there are no AWS credentials for the parameter p");
});

test("a secret without text is an error that says what to store", async () => {
  await expect(readSecret("arn:aws:secretsmanager:eu-west-1:1:secret:x")).rejects.toThrow(
    "store the key as text",
  );
});
