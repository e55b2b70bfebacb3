/** JSON 1.1, the form that Systems Manager and Secrets Manager are asked in: the action is a header. */
import { AwsError, denialText, type Service, type ServiceName } from "./service.ts";
import type { HttpAnswer, HttpRequest } from "./http.ts";

type Fields = Readonly<Record<string, unknown>>;

function actionFromTarget({ headers }: HttpRequest): string | undefined {
  return headers["x-amz-target"]?.split(".").at(-1);
}

/** What was sent. @throws AwsError when it is no object, or has a field that is not one of these */
export function jsonFields(request: HttpRequest, known: readonly string[]): Fields {
  let fields: unknown;
  try {
    fields = JSON.parse(Buffer.from(request.body).toString("utf8"));
  } catch {
    fields = undefined;
  }
  if (typeof fields !== "object" || fields === null) {
    throw new AwsError("SerializationException", "The request's body is no JSON object");
  }
  const stray = Object.keys(fields).find((name) => !known.includes(name));
  if (stray !== undefined)
    throw new AwsError("ValidationException", `The lab does not know the field ${stray}`);
  return fields as Fields;
}

/** @throws AwsError when it is not there */
export function textField(fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value === "string" && value !== "") return value;
  throw new AwsError("ValidationException", `The request has no ${name}`);
}

export function jsonAnswer(fields: Fields, status = 200): HttpAnswer {
  return {
    status,
    headers: { "content-type": "application/x-amz-json-1.1" },
    body: JSON.stringify(fields),
  };
}

/** All of a service that is the same for everyone who speaks this. */
export function jsonService(name: ServiceName, run: Service["run"]): Service {
  return {
    name,
    run,
    actionOf: actionFromTarget,
    refuse: ({ code, message, status }) => jsonAnswer({ __type: code, message }, status),
    faults: {
      missing: new AwsError("MissingAuthenticationTokenException", "Missing Authentication Token"),
      malformed: new AwsError("IncompleteSignatureException", "The Authorization header is malformed"),
      "unknown-key": new AwsError("UnrecognizedClientException", INVALID_TOKEN),
      "wrong-token": new AwsError("UnrecognizedClientException", INVALID_TOKEN),
      expired: new AwsError("ExpiredTokenException", "The security token included in the request is expired"),
      skewed: new AwsError(
        "InvalidSignatureException",
        "Signature expired: the request's time is too far off",
      ),
      "wrong-scope": new AwsError(
        "InvalidSignatureException",
        "Credential should be scoped to a valid region.",
      ),
      mismatch: new AwsError(
        "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.",
      ),
      throttled: new AwsError("ThrottlingException", "Rate exceeded"),
    },
    denied: (denial) => new AwsError("AccessDeniedException", denialText(denial)),
  };
}

const INVALID_TOKEN = "The security token included in the request is invalid.";
