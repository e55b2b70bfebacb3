/** Secrets Manager. https://docs.aws.amazon.com/secretsmanager/latest/apireference/ */
import { decrypt } from "./kms.ts";
import { jsonAnswer, jsonFields, jsonService, textField } from "./json-protocol.ts";
import { AwsError } from "./service.ts";

export const secretsManager = jsonService("secretsmanager", async (call) => {
  if (call.action !== "GetSecretValue") {
    throw new AwsError("UnknownOperationException", `${call.action} is not in the lab`);
  }
  const id = textField(jsonFields(call.request, ["SecretId", "VersionId", "VersionStage"]), "SecretId");
  const { partition, accountId } = call.cloud;
  const secret = [...call.region.secrets.values()].find(({ arn, name }) => arn === id || name === id);
  const unknown = id.startsWith("arn:")
    ? id
    : `arn:${partition}:secretsmanager:${call.region.name}:${accountId}:secret:${id}`;
  const arn = secret?.arn ?? unknown;
  call.authorize("secretsmanager:GetSecretValue", [{ arn, context: { "secretsmanager:SecretId": arn } }]);
  if (secret === undefined) {
    throw new AwsError("ResourceNotFoundException", "Secrets Manager can't find the specified secret.");
  }
  if (secret.value === undefined) {
    throw new AwsError(
      "ResourceNotFoundException",
      "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT",
    );
  }
  decrypt(call, secret.kmsKeyArn, { "kms:EncryptionContext:SecretARN": arn });
  return jsonAnswer({
    ARN: arn,
    Name: secret.name,
    SecretString: secret.value,
    VersionStages: ["AWSCURRENT"],
  });
});
