/**
 * The agent as instances get it: one archive, told apart by its hash, so that a changed agent is a changed instance.
 *
 * `npm run bundle` makes the archive, which holds all that an instance lacks: the agent, its native half and a Node.js.
 */
import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { S3BucketPublicAccessBlock } from "@cdktf/provider-aws/lib/s3-bucket-public-access-block/index.js";
import { S3BucketServerSideEncryptionConfigurationA } from "@cdktf/provider-aws/lib/s3-bucket-server-side-encryption-configuration/index.js";
import { S3Bucket } from "@cdktf/provider-aws/lib/s3-bucket/index.js";
import { S3Object } from "@cdktf/provider-aws/lib/s3-object/index.js";
import { Construct } from "constructs";
import { isKnown } from "./checked.ts";
import type { Architecture } from "./machine-image.ts";
import { regionOf } from "./region.ts";

export interface AgentBundleProps {
  /**
   * The processor that it is for.
   * @default "arm64"
   */
  readonly architecture?: Architecture;
  /**
   * The archive, as a path from where the app runs.
   * @default dist/bundle/sallyport-agent-linux-ARCHITECTURE.tar, which `npm run bundle` makes; SALLYPORT_AGENT_BUNDLE names another
   */
  readonly file?: string;
  /**
   * Where the archive can be had instead, without a login, over HTTPS: nothing is uploaded then. Needs `sha256`.
   * @default `file` is uploaded
   */
  readonly url?: string;
  /**
   * 64 hex digits: what the archive at `url` must be.
   * @default the hash of `file`
   */
  readonly sha256?: string;
  /**
   * The name of a bucket that exists.
   * @default a bucket is made
   */
  readonly bucket?: string;
}

/** Where an instance finds the archive, and how it knows it. */
export interface BundleLocation {
  readonly url: string;
  readonly sha256: string;
  /** The region for a signed request; none for what everybody may read. */
  readonly signedFor?: { readonly region: string };
}

export class AgentBundle extends Construct {
  readonly architecture: Architecture;
  readonly location: BundleLocation;
  /** Undefined where nothing was uploaded. */
  readonly objectArn: string | undefined;

  constructor(scope: Construct, id: string, props: AgentBundleProps = {}) {
    super(scope, id);
    this.architecture = props.architecture ?? "arm64";
    if (props.url !== undefined) {
      this.location = { url: bundleUrl(props), sha256: checkedHash(props.sha256) };
      return;
    }
    const file = resolve(props.file ?? defaultBundleFile(this.architecture));
    const sha256 = hashOf(file);
    if (props.sha256 !== undefined && props.sha256 !== sha256) {
      throw new Error(
        `AgentBundle sha256 is not that of ${file}, which is ${sha256}: give that, or leave it out.`,
      );
    }
    const region = regionOf(this);
    const bucket = props.bucket ?? this.#bucket();
    const object = new S3Object(this, "Object", {
      bucket,
      key: `sallyport/agent/${sha256}.tar`,
      source: file,
      sourceHash: sha256,
    });
    this.objectArn = `arn:${region.partition}:s3:::${bucket}/${object.key}`;
    this.location = {
      url: `https://${bucket}.s3.${region.name}.${region.domain}/${object.key}`,
      sha256,
      signedFor: { region: region.name },
    };
  }

  #bucket(): string {
    const bucket = new S3Bucket(this, "Bucket", {
      bucketPrefix: "sallyport-agent-",
      forceDestroy: true,
      tags: { Name: this.node.path },
    });
    new S3BucketPublicAccessBlock(this, "PublicAccess", {
      bucket: bucket.id,
      blockPublicAcls: true,
      blockPublicPolicy: true,
      ignorePublicAcls: true,
      restrictPublicBuckets: true,
    });
    new S3BucketServerSideEncryptionConfigurationA(this, "Encryption", {
      bucket: bucket.id,
      rule: [{ applyServerSideEncryptionByDefault: { sseAlgorithm: "AES256" } }],
    });
    return bucket.id;
  }
}

/** Where `npm run bundle` puts it: in Sallyport's own folder, from wherever the app runs. SALLYPORT_AGENT_BUNDLE names another. */
export function defaultBundleFile(architecture: Architecture): string {
  const named = process.env["SALLYPORT_AGENT_BUNDLE"];
  if (named !== undefined && named !== "") return resolve(named);
  return fileURLToPath(new URL(`../dist/bundle/sallyport-agent-linux-${architecture}.tar`, import.meta.url));
}

const hashes = new Map<string, string>();

/** Read once a process: it is some 50 MB, and every stack of a fleet asks. */
function hashOf(file: string): string {
  const known = hashes.get(file);
  if (known !== undefined) return known;
  checkBundleFile(file, "AgentBundle file ");
  const hash = createHash("sha256").update(readFileSync(file)).digest("hex");
  hashes.set(file, hash);
  return hash;
}

/** @param prop what stands before the file's name */
export function checkBundleFile(file: string, prop: string): void {
  if (statSync(file, { throwIfNoEntry: false })?.isFile() === true) return;
  throw new Error(
    `${prop}${file} is not there: run \`npm run bundle\` in Sallyport's folder, or give file or url.`,
  );
}

function bundleUrl({ url = "", file, bucket }: AgentBundleProps): string {
  if (file !== undefined || bucket !== undefined) {
    throw new Error("AgentBundle url is given beside file or bucket: give one or the other.");
  }
  return checkedBundleUrl(url, "AgentBundle url");
}

export function checkedBundleUrl(url: string, prop: string): string {
  if (isKnown(url) && !/^https:\/\/[^\s'"`\\@$]+$/.test(url)) {
    throw new Error(`${prop} is not a web address: give it as "https://…", without user and password.`);
  }
  return url;
}

function checkedHash(sha256: string | undefined): string {
  if (sha256 === undefined || !/^[0-9a-f]{64}$/.test(sha256)) {
    throw new Error(
      "AgentBundle sha256 is missing or not 64 hex digits: give what `sha256sum` says of the archive at url.",
    );
  }
  return sha256;
}
