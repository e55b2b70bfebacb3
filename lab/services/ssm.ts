/** Parameters of Systems Manager. https://docs.aws.amazon.com/systems-manager/latest/APIReference/ */
import type { LabParameter } from "../cloud/cloud.ts";
import { decrypt } from "./kms.ts";
import { jsonAnswer, jsonFields, jsonService, textField } from "./json-protocol.ts";
import type { HttpAnswer } from "./http.ts";
import { AwsError, type Call, type Resource } from "./service.ts";

export const ssm = jsonService("ssm", (call) => {
  const action = ACTIONS[call.action];
  if (action === undefined)
    throw new AwsError("UnknownOperationException", `${call.action} is not in the lab`);
  return action(call);
});

const ACTIONS: Readonly<Record<string, (call: Call) => Promise<HttpAnswer>>> = {
  GetParameter: getParameter,
  PutParameter: putParameter,
};

/** Of a standard parameter. */
const MAX_VALUE_BYTES = 4096;

async function getParameter(call: Call): Promise<HttpAnswer> {
  const fields = jsonFields(call.request, ["Name", "WithDecryption"]);
  const name = nameIn(call, textField(fields, "Name"));
  call.authorize("ssm:GetParameter", [parameterResource(call, name)]);
  const parameter = call.region.parameters.get(name);
  if (parameter === undefined) throw new AwsError("ParameterNotFound", "");
  const isSecret = parameter.type === "SecureString";
  const decrypts = isSecret && fields["WithDecryption"] === true;
  if (decrypts) decrypt(call, parameter.kmsKeyArn, { "kms:EncryptionContext:PARAMETER_ARN": parameter.arn });
  const Value = isSecret && !decrypts ? ciphertext(parameter) : parameter.value;
  return jsonAnswer({
    Parameter: {
      Name: parameter.name,
      Type: parameter.type,
      Value,
      Version: parameter.version,
      ARN: parameter.arn,
      DataType: "text",
    },
  });
}

async function putParameter(call: Call): Promise<HttpAnswer> {
  const fields = jsonFields(call.request, ["Name", "Value", "Type", "Overwrite", "KeyId"]);
  const [name, value] = [textField(fields, "Name"), textField(fields, "Value")];
  const overwrite = fields["Overwrite"] === true;
  call.authorize("ssm:PutParameter", [parameterResource(call, name)], {
    "ssm:Overwrite": String(overwrite),
  });
  if (Buffer.byteLength(value) > MAX_VALUE_BYTES) {
    throw new AwsError(
      "ValidationException",
      `Standard tier parameters support a maximum parameter value of ${MAX_VALUE_BYTES} characters.`,
    );
  }
  if (!overwrite && call.region.parameters.has(name)) {
    throw new AwsError(
      "ParameterAlreadyExists",
      "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.",
    );
  }
  const { version } = call.region.putParameter(name, value, { overwrite });
  return jsonAnswer({ Version: version, Tier: "Standard" });
}

/** Parameters are asked for by their name or their ARN. */
function nameIn(call: Call, asked: string): string {
  if (!asked.startsWith("arn:")) return asked;
  const all = [...call.region.parameters.values()];
  return all.find(({ arn }) => arn === asked)?.name ?? asked.replace(/^.*:parameter/, "");
}

/** The slash in front of a name is the one in the ARN. */
function parameterResource({ cloud, region }: Call, name: string): Resource {
  const path = name.replace(/^\//, "");
  return { arn: `arn:${cloud.partition}:ssm:${region.name}:${cloud.accountId}:parameter/${path}` };
}

/** Something that is not the value. */
function ciphertext({ arn, version }: LabParameter): string {
  return Buffer.from(`encrypted ${arn} ${version}`).toString("base64");
}
