/** S3: objects are fetched. https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html */
import { existsSync, statSync } from "node:fs";
import { AwsError, denialText, type Call, type Service } from "./service.ts";
import { xmlDocument } from "./xml.ts";
import { decodedUri, type HttpAnswer, type HttpRequest } from "./http.ts";

const ACTIONS: Readonly<Record<string, string>> = { GET: "GetObject", HEAD: "HeadObject" };

export const s3: Service = {
  name: "s3",
  actionOf: ({ method }) => ACTIONS[method],
  async run(call) {
    const { bucket, key } = placeOf(call.request);
    if (bucket === "" || key === "" || call.request.query !== "") {
      throw new AwsError("NotImplemented", "The lab's S3 only hands out objects", 501);
    }
    return getObject(call, bucket, key);
  },
  refuse({ code, message, status }, RequestId) {
    const fields = { Code: code, Message: message, RequestId, HostId: "lab" };
    return { status, headers: { "content-type": "application/xml" }, body: xmlDocument("Error", fields) };
  },
  faults: {
    missing: new AwsError("AccessDenied", "Access Denied", 403),
    malformed: new AwsError("AuthorizationHeaderMalformed", "The authorization header is malformed"),
    "unknown-key": new AwsError(
      "InvalidAccessKeyId",
      "The AWS Access Key Id you provided does not exist in our records.",
      403,
    ),
    "wrong-token": new AwsError("InvalidToken", "The provided token is malformed or otherwise invalid."),
    expired: new AwsError("ExpiredToken", "The provided token has expired."),
    skewed: new AwsError(
      "RequestTimeTooSkewed",
      "The difference between the request time and the current time is too large.",
      403,
    ),
    "wrong-scope": new AwsError(
      "AuthorizationHeaderMalformed",
      "The authorization header is malformed; the region is wrong",
    ),
    mismatch: new AwsError(
      "SignatureDoesNotMatch",
      "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
      403,
    ),
    throttled: new AwsError("SlowDown", "Please reduce your request rate.", 503),
  },
  denied: (denial) => new AwsError("AccessDenied", denialText(denial), 403),
};

/** A bucket's own host, or a path below S3's. */
function placeOf({ headers, path }: HttpRequest): { readonly bucket: string; readonly key: string } {
  const host = (headers["host"] ?? "").replace(/:\d+$/, "");
  const [, own] = /^(.+)\.s3[.-]/.exec(host) ?? [];
  const [, first = "", rest = ""] = /^\/([^/]*)\/?(.*)$/s.exec(path) ?? [];
  const key = own === undefined ? rest : path.slice(1);
  return { bucket: own ?? first, key: decodedUri(key) };
}

function getObject(call: Call, bucket: string, key: string): HttpAnswer {
  const arn = `arn:${call.cloud.partition}:s3:::${bucket}`;
  call.authorize("s3:GetObject", [{ arn: `${arn}/${key}` }]);
  const found = call.region.buckets.get(bucket);
  if (found === undefined) throw new AwsError("NoSuchBucket", "The specified bucket does not exist", 404);
  const object = found.objects.get(key);
  if (object === undefined || !existsSync(object.file)) {
    // Who may not list a bucket isn't told what is not in it.
    if (!call.may("s3:ListBucket", { arn })) throw new AwsError("AccessDenied", "Access Denied", 403);
    throw new AwsError("NoSuchKey", "The specified key does not exist.", 404);
  }
  const headers = {
    "content-type": "application/octet-stream",
    "content-length": String(statSync(object.file).size),
    etag: `"${object.etag}"`,
  };
  return {
    status: 200,
    headers,
    body: call.request.method === "HEAD" ? "" : { file: object.file },
  };
}
