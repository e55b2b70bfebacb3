/** The key by which a node joins its network: where it is kept and who may read it. Never the key itself. */
import { Construct } from "constructs";
import { isKnown } from "./checked.ts";
import type { PolicyStatement } from "./agent-role.ts";
import { regionOf } from "./region.ts";

export interface AuthKeyProps {
  /**
   * The name of a parameter of Systems Manager (a SecureString), such as "/sallyport/auth-key".
   * @default it is in a secret
   */
  readonly parameterName?: string;
  /**
   * The region that the parameter is in, such as "eu-west-1".
   * @default the stack's own
   */
  readonly region?: string;
  /**
   * The ARN of a secret of Secrets Manager.
   * @default it is in a parameter
   */
  readonly secretArn?: string;
  /**
   * The ARN of the KMS key that it is encrypted with, where that is one of your own.
   * @default the account's own key for Systems Manager or Secrets Manager
   */
  readonly kmsKeyArn?: string;
}

export class AuthKey extends Construct {
  /** How the agent is told: "ssm:NAME", with an ARN where it is in another region, or "secretsmanager:ARN". */
  readonly source: string;
  /** What an instance must be allowed in order to read it. */
  readonly statements: readonly PolicyStatement[];

  constructor(scope: Construct, id: string, props: AuthKeyProps) {
    super(scope, id);
    const { parameterName, secretArn, kmsKeyArn } = props;
    if ((parameterName === undefined) === (secretArn === undefined)) {
      throw new Error("AuthKey parameterName or secretArn: give exactly one of them.");
    }
    const decrypt: readonly PolicyStatement[] =
      kmsKeyArn === undefined
        ? []
        : [
            {
              sid: "OwnAuthKeyDecrypt",
              actions: ["kms:Decrypt"],
              resources: [checkedArn(kmsKeyArn, "kms", "AuthKey kmsKeyArn")],
            },
          ];
    if (secretArn !== undefined) {
      if (props.region !== undefined) {
        throw new Error(
          "AuthKey region is for parameterName, and secretArn tells its own: leave region out.",
        );
      }
      const resource = checkedArn(secretArn, "secretsmanager", "AuthKey secretArn");
      this.source = `secretsmanager:${resource}`;
      this.statements = [
        { sid: "OwnAuthKey", actions: ["secretsmanager:GetSecretValue"], resources: [resource] },
        ...decrypt,
      ];
      return;
    }
    const name = checkedParameterName(parameterName ?? "");
    const arn = parameterArn(this, name, checkedRegion(props.region));
    this.source = `ssm:${props.region === undefined ? name : arn}`;
    this.statements = [{ sid: "OwnAuthKey", actions: ["ssm:GetParameter"], resources: [arn] }, ...decrypt];
  }
}

function checkedRegion(region: string | undefined): string | undefined {
  if (region !== undefined && isKnown(region) && !/^[a-z]{2}(-[a-z]+)+-\d$/.test(region)) {
    throw new Error(`AuthKey region is "${region}": give one such as "eu-west-1", or leave it out.`);
  }
  return region;
}

/** @param region where it is not the stack's own */
export function parameterArn(scope: Construct, name: string, region?: string): string {
  const { partition, name: own, accountId } = regionOf(scope);
  return `arn:${partition}:ssm:${region ?? own}:${accountId}:parameter/${name.replace(/^\//, "")}`;
}

/** What keys look like, of Tailscale, headscale and our own server; and any long run of hex digits. */
const LOOKS_LIKE_A_KEY = /^(tskey-|hskey-|sallyport-|spkey-|[0-9a-f]{40,}$)|-[0-9a-f]{32,}$/i;

/** Errors never repeat what was given: it may be the key. */
export function checkedParameterName(name: string, prop = "AuthKey parameterName"): string {
  if (!isKnown(name)) return name;
  if (LOOKS_LIKE_A_KEY.test(name)) {
    throw new Error(
      `${prop} looks like an auth key itself: store the key with \`aws ssm put-parameter --type SecureString\` and give the parameter's name. Revoke the key if this file was shared.`,
    );
  }
  if (!/^\/?[a-zA-Z0-9_.-]+(\/[a-zA-Z0-9_.-]+)*$/.test(name) || name.length > 1011) {
    throw new Error(`${prop} is no name of a parameter: give one such as "/sallyport/auth-key".`);
  }
  if (name.includes("/") && !name.startsWith("/")) {
    throw new Error(`${prop} has a slash and does not begin with one: Systems Manager wants "/…".`);
  }
  return name;
}

export function checkedArn(arn: string, service: string, prop: string): string {
  if (isKnown(arn) && !new RegExp(`^arn:aws[a-z-]*:${service}:[a-z0-9-]+:\\d{12}:[\\w/+=.@:-]+$`).test(arn)) {
    throw new Error(`${prop} is no ARN: give it as "arn:aws:${service}:REGION:ACCOUNT:…".`);
  }
  return arn;
}
