/** Secrets that lie in AWS: parameters of Systems Manager and secrets of Secrets Manager, read and written by name. */
import { OperationError } from "../base/errors.ts";
import { askAws, prepareSdk } from "./aws-client.ts";

/** @param name or an ARN, whose region is asked then. @throws OperationError */
export async function readParameter(name: string): Promise<string> {
  const { GetParameterCommand, SSMClient } = await ssm();
  const [, elsewhere] = /^arn:[^:]+:ssm:([^:]+):/.exec(name) ?? [];
  const { Parameter: parameter } = await askAws(
    `the parameter ${name}`,
    (config) => new SSMClient(elsewhere === undefined ? config : { ...config, region: elsewhere }),
    (client) => client.send(new GetParameterCommand({ Name: name, WithDecryption: true })),
  );
  return checkedText(parameter?.Value, `the parameter ${name}`);
}

/** Overwrites a parameter that exists. @throws OperationError */
export async function writeParameter(name: string, value: string): Promise<void> {
  const { PutParameterCommand, SSMClient } = await ssm();
  const request = { Name: name, Value: value, Type: "SecureString", Overwrite: true } as const;
  await askAws(
    `writing the parameter ${name}`,
    (config) => new SSMClient(config),
    (client) => client.send(new PutParameterCommand(request)),
  );
}

/** @throws OperationError */
export async function readSecret(arn: string): Promise<string> {
  prepareSdk();
  const { GetSecretValueCommand, SecretsManagerClient } = await import("./apart/secrets-manager.ts");
  const secret = await askAws(
    `the secret ${arn}`,
    (config) => new SecretsManagerClient(config),
    (client) => client.send(new GetSecretValueCommand({ SecretId: arn })),
  );
  return checkedText(secret.SecretString, `the secret ${arn}`);
}

function ssm() {
  prepareSdk();
  return import("./apart/ssm.ts");
}

function checkedText(text: string | undefined, what: string): string {
  if (text !== undefined) return text;
  throw new OperationError("aws-secret", `${what} holds no text: store the key as text`);
}
