/** The tags of the instance that this runs on: written with one call, and whether it may do that. */
import { readFile } from "node:fs/promises";
import { OperationError } from "../../base/errors.ts";
import type { NodeTags } from "../../health/node-tags.ts";
import type * as Ec2 from "../apart/ec2.ts";
import { awsError, clientConfig, type ClientOptions, faultOf, loadEc2, ownRegion } from "./clients.ts";
import { Imds } from "./imds.ts";

/** `code` is short and of a known set, `message` a sentence that says what to do. */
export interface TagFailure {
  readonly code: string;
  readonly message: string;
}

/** What AWS would say to such a request; `unknown` where it said something else. */
export type Verdict = "allowed" | "denied" | "unknown";

/** As it should be: allowed, denied, denied. */
export interface TagPermission {
  /** The health tags of this instance. */
  readonly own: Verdict;
  /** Other tags of this instance. */
  readonly otherKeys: Verdict;
  /** The health tags of another instance. */
  readonly otherInstances: Verdict;
}

export interface InstanceTagsOptions extends Omit<ClientOptions, "region"> {
  readonly imds?: Imds;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

interface Target {
  readonly ec2: Ec2.EC2Client;
  readonly sdk: typeof Ec2;
  readonly instanceId: string;
  readonly resource: string;
}

/** Whoever writes retries by its own clock. */
const ATTEMPTS = 1;
const ACTION = "ec2:CreateTags";
/** No instance has it. */
const NOBODY = "i-00000000000000000";

export class InstanceTags {
  readonly #options: InstanceTagsOptions;
  #target: Promise<Target> | undefined;

  constructor(options: InstanceTagsOptions = {}) {
    this.#options = options;
  }

  /** Returns what failed; undefined when it is written. Never throws. */
  async write(tags: NodeTags): Promise<TagFailure | undefined> {
    try {
      const { ec2, sdk, instanceId } = await this.#find();
      await ec2.send(new sdk.CreateTagsCommand({ Resources: [instanceId], Tags: entriesOf(tags) }));
      return undefined;
    } catch (error) {
      return await this.#failure(error);
    }
  }

  /** Asks without doing (DryRun). Never throws; undefined where AWS can not be asked. */
  async permission(tags: NodeTags): Promise<TagPermission | undefined> {
    try {
      const { instanceId } = await this.#find();
      const foreign = { "sallyport:not-ours": "x" };
      const [own, otherKeys, otherInstances] = await Promise.all([
        this.#wouldBe(instanceId, tags),
        this.#wouldBe(instanceId, foreign),
        this.#wouldBe(NOBODY, tags),
      ]);
      return { own, otherKeys, otherInstances };
    } catch {
      return undefined;
    }
  }

  async close(): Promise<void> {
    const target = await this.#target?.catch(() => undefined);
    target?.ec2.destroy();
  }

  async #wouldBe(instanceId: string, tags: Readonly<Record<string, string>>): Promise<Verdict> {
    const { ec2, sdk } = await this.#find();
    const request = { DryRun: true, Resources: [instanceId], Tags: entriesOf(tags) };
    const error = await ec2.send(new sdk.CreateTagsCommand(request)).then(
      () => undefined,
      (refusal: unknown) => refusal,
    );
    if (error instanceof Error && error.name === "DryRunOperation") return "allowed";
    return faultOf(error) === "denied" ? "denied" : "unknown";
  }

  #find(): Promise<Target> {
    this.#target ??= this.#identify().catch((error: unknown) => {
      this.#target = undefined;
      throw error;
    });
    return this.#target;
  }

  async #identify(): Promise<Target> {
    const { imds = new Imds(), env = process.env, ...options } = this.#options;
    const instanceId = await imds.instanceId();
    const region = await ownRegion(imds, env);
    const sdk = await loadEc2();
    const ec2 = new sdk.EC2Client(clientConfig({ ...options, region, attempts: ATTEMPTS }));
    return { ec2, sdk, instanceId, resource: `instance/${instanceId} in ${region}` };
  }

  async #failure(error: unknown): Promise<TagFailure> {
    if (error instanceof OperationError) return error;
    const target = await this.#target?.catch(() => undefined);
    return awsError(error, ACTION, target?.resource ?? "this instance");
  }
}

/** Whether this machine looks like an EC2 instance, or is led to believe so. Asks nobody. */
export async function looksLikeEc2(
  env: Readonly<Record<string, string | undefined>> = process.env,
): Promise<boolean> {
  if (env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] !== undefined) return true;
  // https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html (Nitro)
  const tag = await readFile("/sys/class/dmi/id/board_asset_tag", "utf8").catch(() => "");
  return /^i-[0-9a-f]{8,17}\s*$/.test(tag);
}

function entriesOf(tags: Readonly<Record<string, string>>) {
  return Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
}
