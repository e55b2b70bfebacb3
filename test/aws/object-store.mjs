/**
 * Stands in for S3 and for an instance's metadata service, in a namespace of its own. It checks every request as AWS does:
 * metadata only with a token, objects only with a right Signature Version 4 of the role's credentials.
 *
 *   node object-store.mjs FILE   serves FILE as /bucket/agent.tar; nothing where there is no such file
 */
import { createHash, createHmac } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";

const [file] = process.argv.slice(2);
const ROLE = "sallyport-role";
// AWS's own example credentials.
const CREDENTIALS = {
  Code: "Success",
  AccessKeyId: "ASIAIOSFODNN7EXAMPLE",
  SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
  Token: "IQoJb3JpZ2luX2VjEXAMPLE//////////wEaCXVzLWVhc3QtMQ==",
};
const REGION = "eu-west-1";

const metadata = createServer((request, response) => {
  const answer = (status, text = "") => response.writeHead(status).end(text);
  if (request.method === "PUT" && request.url === "/latest/api/token") return answer(200, "METADATA-TOKEN");
  if (request.headers["x-aws-ec2-metadata-token"] !== "METADATA-TOKEN") return answer(401);
  if (request.url === "/latest/meta-data/iam/security-credentials/") return answer(200, ROLE);
  if (request.url === `/latest/meta-data/iam/security-credentials/${ROLE}`) {
    return answer(200, JSON.stringify(CREDENTIALS, undefined, 2));
  }
  return answer(404);
});

const store = createServer((request, response) => {
  const refused = whyRefused(request);
  if (refused !== undefined) {
    process.stdout.write(`refused: ${refused}\n`);
    response.writeHead(403).end(refused);
  } else if (request.url === "/bucket/agent.tar" && existsSync(file)) {
    process.stdout.write("served\n");
    response.writeHead(200).end(readFileSync(file));
  } else {
    response.writeHead(404).end("NoSuchKey");
  }
});

/** https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html */
function whyRefused({ method, url, headers }) {
  if (headers["x-amz-security-token"] !== CREDENTIALS.Token) return "no session token";
  const payload = headers["x-amz-content-sha256"];
  if (payload === undefined) return "no x-amz-content-sha256";
  const pattern =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/;
  const [, id, day, region, signed, signature] = pattern.exec(headers.authorization ?? "") ?? [];
  if (id !== CREDENTIALS.AccessKeyId || region !== REGION) return "another's credentials or region";
  const names = signed.split(";");
  for (const name of ["host", "x-amz-date"]) if (!names.includes(name)) return `${name} is not signed`;
  const canonical = [
    method,
    url,
    "",
    ...names.map((name) => `${name}:${headers[name]}`),
    "",
    signed,
    payload,
  ];
  const scope = `${day}/${region}/s3/aws4_request`;
  const text = ["AWS4-HMAC-SHA256", headers["x-amz-date"], scope, sha256(canonical.join("\n"))].join("\n");
  const key = [day, region, "s3", "aws4_request"].reduce(hmac, `AWS4${CREDENTIALS.SecretAccessKey}`);
  return hmac(key, text).toString("hex") === signature ? undefined : "the signature does not match";
}

const sha256 = (text) => createHash("sha256").update(text).digest("hex");
const hmac = (key, text) => createHmac("sha256", key).update(text).digest();

metadata.listen(80, "169.254.169.254", () => {
  store.listen(9000, "127.0.0.1", () => process.stdout.write("listening\n"));
});
