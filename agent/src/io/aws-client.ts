/**
 * How clients of AWS's SDK are made and asked: credentials by the SDK's own chain (variables, profiles, the role of the
 * instance by metadata version 2), the region from there too, and errors that people can act on.
 */
import { OperationError } from "../base/errors.ts";
import { Imds } from "./aws/imds.ts";

export interface AwsClientConfig {
  readonly region?: string;
  readonly maxAttempts: number;
  readonly requestHandler: { readonly connectionTimeout: number; readonly requestTimeout: number };
}

interface AwsClient {
  readonly config: { region(): Promise<string> };
  destroy(): void;
}

const CONFIG: AwsClientConfig = {
  maxAttempts: 3,
  requestHandler: { connectionTimeout: 5_000, requestTimeout: 10_000 },
};

/**
 * Makes a client and asks it something. The SDK takes a region from variables and profiles only: where they have none it is
 * the instance's.
 * @param what for errors: what is asked for, without secrets
 * @throws OperationError without the request's body or its answer's
 */
export async function askAws<C extends AwsClient, T>(
  what: string,
  make: (config: AwsClientConfig) => C,
  ask: (client: C) => Promise<T>,
): Promise<T> {
  const client = await clientInRegion(make);
  try {
    return await ask(client);
  } catch (error) {
    throw explained(what, error);
  } finally {
    client.destroy();
  }
}

/** Before the SDK is loaded: what it would say on every start on Node 20, and that it asks metadata with a token only. */
export function prepareSdk(): void {
  process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] ??= "true";
  process.env["AWS_EC2_METADATA_V1_DISABLED"] ??= "true";
}

async function clientInRegion<C extends AwsClient>(make: (config: AwsClientConfig) => C): Promise<C> {
  const client = make(CONFIG);
  try {
    await client.config.region();
    return client;
  } catch {
    client.destroy();
    return make({ ...CONFIG, region: await instanceRegion() });
  }
}

async function instanceRegion(): Promise<string> {
  try {
    return await new Imds().region();
  } catch (cause) {
    throw new OperationError(
      "aws-region",
      "no region of AWS is known: set AWS_REGION, or run this on an EC2 instance, whose metadata tell it",
      { cause },
    );
  }
}

/** Refusals come without a cause: it repeats what AWS said, which may be what was sent. */
function explained(what: string, error: unknown): OperationError {
  const { name, $metadata: metadata } = error as {
    readonly name?: string;
    readonly $metadata?: { readonly httpStatusCode?: number };
  };
  if (metadata?.httpStatusCode !== undefined) {
    return new OperationError(
      "aws-refused",
      `AWS refuses ${what} (${name ?? metadata.httpStatusCode}): see that it exists and that the instance's role may use it`,
    );
  }
  if (name === "CredentialsProviderError") {
    return new OperationError(
      "aws-credentials",
      `there are no AWS credentials for ${what}: give the instance a role, or set AWS_PROFILE or AWS_ACCESS_KEY_ID`,
      { cause: error },
    );
  }
  return new OperationError(
    "aws-unreachable",
    `AWS can not be reached for ${what}: let TCP 443 out, or see that AWS_REGION is right`,
    { cause: error },
  );
}
