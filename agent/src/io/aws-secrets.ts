/** Secrets that lie in AWS: parameters of Systems Manager and secrets of Secrets Manager, read and written by name. */
import { OperationError } from "../base/errors.ts";
import { awsJson, type AwsOptions } from "./aws-request.ts";

/** @throws OperationError */
export async function readParameter(name: string, options: AwsOptions = {}): Promise<string> {
  const request = { Name: name, WithDecryption: true };
  const { Parameter: parameter } = await awsJson("ssm", "AmazonSSM.GetParameter", request, options);
  return textIn(parameter, "Value", `the parameter ${name}`);
}

/** Overwrites a parameter that exists. @throws OperationError */
export async function writeParameter(name: string, value: string, options: AwsOptions = {}): Promise<void> {
  const request = { Name: name, Value: value, Type: "SecureString", Overwrite: true };
  await awsJson("ssm", "AmazonSSM.PutParameter", request, options);
}

/** @throws OperationError */
export async function readSecret(arn: string, options: AwsOptions = {}): Promise<string> {
  const secret = await awsJson("secretsmanager", "secretsmanager.GetSecretValue", { SecretId: arn }, options);
  return textIn(secret, "SecretString", `the secret ${arn}`);
}

function textIn(value: unknown, field: string, what: string): string {
  const found =
    typeof value === "object" && value !== null ? (value as Record<string, unknown>)[field] : undefined;
  if (typeof found === "string") return found;
  throw new OperationError("aws-secret", `${what} holds no text: store the key as text`);
}
