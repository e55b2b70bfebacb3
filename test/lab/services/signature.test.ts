import type { Session } from "../../../lab/services/credentials.ts";
import type { HttpRequest } from "../../../lab/services/http.ts";
import { checkSignature, type Expected } from "../../../lab/services/signature.ts";

const NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const session = (accessKeyId: string, secretAccessKey: string): Session => ({
  ...{ accessKeyId, secretAccessKey, sessionToken: undefined },
  ...{ principal: { kind: "user", name: "x" }, made: 0, expires: Number.POSITIVE_INFINITY },
});
const S3_USER = session("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
const IAM_USER = session("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");

const at = (now: number, service: string): Expected => ({
  ...{ service, region: "us-east-1", now },
  sessionOf: (id) => [S3_USER, IAM_USER].find(({ accessKeyId }) => accessKeyId === id),
});
const MAY_2013 = Date.UTC(2013, 4, 24);

/** https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html */
function fromS3(
  path: string,
  query: string,
  signature: string,
  more: HttpRequest["headers"] = {},
): HttpRequest {
  const signed = ["host", ...Object.keys(more), "x-amz-content-sha256", "x-amz-date"].join(";");
  return {
    ...{ method: "GET", path, query, body: new Uint8Array(), from: "203.0.113.1" },
    headers: {
      host: "examplebucket.s3.amazonaws.com",
      ...more,
      "x-amz-content-sha256": NOTHING,
      "x-amz-date": "20130524T000000Z",
      authorization: `AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=${signed},Signature=${signature}`,
    },
  };
}

const OBJECT = fromS3("/test.txt", "", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41", {
  range: "bytes=0-9",
});

test.each<[string, HttpRequest, string]>([
  ["an object of S3", OBJECT, "s3"],
  [
    "a query without a value",
    fromS3("/", "lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
    "s3",
  ],
  [
    "a query in any order",
    fromS3("/", "prefix=J&max-keys=2", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    "s3",
  ],
])("Amazon's own example of %s is right", (_, request, service) => {
  expect(checkSignature(request, at(MAY_2013, service))).toBe(S3_USER);
});

test("Amazon's own example of a query is right", () => {
  const request: HttpRequest = {
    ...{ method: "GET", path: "/", query: "Action=ListUsers&Version=2010-05-08", from: "203.0.113.1" },
    body: new Uint8Array(),
    headers: {
      host: "iam.amazonaws.com",
      "content-type": "application/x-www-form-urlencoded; charset=utf-8",
      "x-amz-date": "20150830T123600Z",
      authorization:
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
    },
  };
  expect(checkSignature(request, at(Date.UTC(2015, 7, 30, 12, 36), "iam"))).toBe(IAM_USER);
});

const changed = (headers: Readonly<Record<string, string | undefined>>): HttpRequest => {
  const all = Object.entries({ ...OBJECT.headers, ...headers });
  return {
    ...OBJECT,
    headers: Object.fromEntries(all.filter((pair): pair is [string, string] => pair[1] !== undefined)),
  };
};
const MINUTE = 60_000;

test.each<[string, HttpRequest, Expected, ReturnType<typeof checkSignature>]>([
  ["another path", { ...OBJECT, path: "/test.tx" }, at(MAY_2013, "s3"), "mismatch"],
  ["another method", { ...OBJECT, method: "PUT" }, at(MAY_2013, "s3"), "mismatch"],
  ["another query", { ...OBJECT, query: "acl" }, at(MAY_2013, "s3"), "mismatch"],
  ["another header that was signed", changed({ range: "bytes=0-8" }), at(MAY_2013, "s3"), "mismatch"],
  ["a body that was not signed", { ...OBJECT, body: Uint8Array.of(1) }, at(MAY_2013, "s3"), "mismatch"],
  ["no signature", changed({ authorization: undefined }), at(MAY_2013, "s3"), "missing"],
  ["something else", changed({ authorization: "Bearer x" }), at(MAY_2013, "s3"), "malformed"],
  ["no date", changed({ "x-amz-date": undefined }), at(MAY_2013, "s3"), "malformed"],
  [
    "an unsigned header of Amazon's",
    changed({ "x-amz-acl": "public-read" }),
    at(MAY_2013, "s3"),
    "malformed",
  ],
  ["a token that nobody gave", changed({ "x-amz-security-token": "t" }), at(MAY_2013, "s3"), "malformed"],
  ["another service", OBJECT, at(MAY_2013, "ec2"), "wrong-scope"],
  ["another region", OBJECT, { ...at(MAY_2013, "s3"), region: "eu-west-1" }, "wrong-scope"],
  ["fifteen minutes late, to S3", OBJECT, at(MAY_2013 + 15 * MINUTE, "s3"), S3_USER],
  ["later than that", OBJECT, at(MAY_2013 + 15 * MINUTE + 1, "s3"), "skewed"],
  ["sixteen minutes early", OBJECT, at(MAY_2013 - 16 * MINUTE, "s3"), "skewed"],
])("with %s: %#", (_, request, expected, answer) => {
  expect(checkSignature(request, expected)).toBe(answer);
});
