import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { wallTime } from "../../../agent/src/base/time.ts";
import { readParameter, readSecret, writeParameter } from "../../../agent/src/io/aws-secrets.ts";
import { signedHeaders } from "../../../agent/src/io/aws-request.ts";

/** What one request brought. */
interface Seen {
  readonly path: string;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: string;
}

let server: Server;
let env: Readonly<Record<string, string>>;
let seen: Seen[];
let answer: { status: number; body: object };

beforeEach(async () => {
  [seen, answer] = [[], { status: 200, body: {} }];
  server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => (body += String(chunk)));
    request.on("end", () => {
      const path = request.url ?? "";
      seen.push({ path, headers: request.headers, body });
      const said = METADATA[path];
      if (said !== undefined) response.end(said);
      else response.writeHead(answer.status).end(JSON.stringify(answer.body));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  env = { AWS_ENDPOINT_URL: endpoint, AWS_EC2_METADATA_SERVICE_ENDPOINT: endpoint };
});
afterEach(() => new Promise((resolve) => server.close(resolve)));

const METADATA: Readonly<Record<string, string>> = {
  "/latest/api/token": "TOKEN",
  "/latest/meta-data/placement/region": "eu-west-1",
  "/latest/meta-data/iam/security-credentials/": "role",
  "/latest/meta-data/iam/security-credentials/role": JSON.stringify({
    AccessKeyId: "AKIDEXAMPLE",
    SecretAccessKey: "very-secret",
    Token: "SESSION",
  }),
};

// Expected: botocore 1.35's SigV4Auth for the same request.
test("a signature is the one that AWS's own library makes", () => {
  const headers = signedHeaders({
    service: "ssm",
    region: "us-east-1",
    url: new URL("https://ssm.us-east-1.amazonaws.com/"),
    body: '{"Name":"x"}',
    credentials: {
      accessKeyId: "AKIDEXAMPLE",
      secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
      sessionToken: "SESSION",
    },
    headers: { "content-type": "application/x-amz-json-1.1", "x-amz-target": "AmazonSSM.GetParameter" },
    time: "20150830T123600Z",
  });
  expect(headers["authorization"]).toBe(EXPECTED);
});

const EXPECTED =
  "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/ssm/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature=2cc1163a580ada04c603176cfe838425a3a6269096bf3e76ba26e69f0674de05";

test("a parameter is asked for decrypted, as the instance's role and in its region", async () => {
  answer = { status: 200, body: { Parameter: { Value: "key" } } };
  const calendar = { now: () => wallTime(Date.UTC(2026, 0, 2, 3, 4, 5)) };
  expect(await readParameter("/a/b", { env, calendar })).toBe("key");
  const asked = seen.at(-1);
  expect(JSON.parse(asked?.body ?? "")).toEqual({ Name: "/a/b", WithDecryption: true });
  expect(asked?.headers).toMatchObject({
    "x-amz-target": "AmazonSSM.GetParameter",
    "x-amz-security-token": "SESSION",
    "x-amz-date": "20260102T030405Z",
    authorization: expect.stringContaining("Credential=AKIDEXAMPLE/20260102/eu-west-1/ssm/aws4_request"),
  });
});

test("metadata is asked with a token", async () => {
  answer = { status: 200, body: { Parameter: { Value: "key" } } };
  await readParameter("p", { env });
  const asked = seen.filter(({ path }) => path.startsWith("/latest/meta-data"));
  expect(asked.length).toBeGreaterThan(0);
  for (const { headers } of asked) expect(headers["x-aws-ec2-metadata-token"]).toBe("TOKEN");
});

test("a secret is read, and a parameter overwritten as a SecureString", async () => {
  answer = { status: 200, body: { SecretString: "s3" } };
  expect(await readSecret("arn:aws:secretsmanager:eu-west-1:1:secret:x", { env })).toBe("s3");
  await writeParameter("/a", "value", { env });
  expect(JSON.parse(seen.at(-1)?.body ?? "")).toEqual({
    Name: "/a",
    Value: "value",
    Type: "SecureString",
    Overwrite: true,
  });
});

test("a refusal names its kind, and neither key nor answer", async () => {
  answer = { status: 400, body: { __type: "x#AccessDeniedException", Message: "very-secret" } };
  const refused = readParameter("p", { env });
  await expect(refused).rejects.toThrow(/AmazonSSM.GetParameter \(AccessDeniedException\)/);
  await expect(refused).rejects.not.toThrow(/very-secret/);
});

test("off AWS it says where this works", async () => {
  const nowhere = { AWS_EC2_METADATA_SERVICE_ENDPOINT: "http://127.0.0.1:1" };
  await expect(readParameter("p", { env: nowhere })).rejects.toThrow("this works on an EC2 instance");
});
