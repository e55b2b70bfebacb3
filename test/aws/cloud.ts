/** An AWS of one's own: moto's server, and Terraform with the real provider pointed at it. */
import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { findProviderMirror, terraformConfig } from "../stacks/provider-mirror.ts";

const root = join(__dirname, "../..");
const synth = join(root, "bin/synth.mjs");
const SERVICES = ["ec2", "s3", "ssm", "iam", "sts", "autoscaling", "elbv2", "secretsmanager"];
/** Of `terraform plan -detailed-exitcode`. */
const [NOTHING_TO_DO, CHANGES] = [0, 2];
const TERRAFORM_TIMEOUT_MS = 1_500_000;

export interface Result {
  readonly status: number | null;
  readonly output: string;
}

/** A change that a plan wants: the attributes of one resource that would differ. */
export interface Change {
  readonly address: string;
  readonly actions: readonly string[];
  readonly attributes: readonly string[];
}

export class Cloud {
  readonly folder = mkdtempSync(join(tmpdir(), "sallyport-aws-"));
  readonly endpoint: string;
  readonly #server: ChildProcess;
  readonly #mirror = findProviderMirror();

  private constructor(endpoint: string, server: ChildProcess) {
    this.endpoint = endpoint;
    this.#server = server;
    writeFileSync(join(this.folder, "terraformrc"), terraformConfig(this.#mirror));
  }

  static async start(bin: string): Promise<Cloud> {
    const port = await freePort();
    const patched = join(__dirname, "moto_patched.py");
    const server = spawn(join(bin, "python"), [patched, String(port)], { stdio: "ignore" });
    const cloud = new Cloud(`http://127.0.0.1:${port}`, server);
    for (let tries = 0; tries < 150; tries++) {
      if (await answers(cloud.endpoint)) return cloud;
      await wait(200);
    }
    cloud.stop();
    throw new Error("moto does not answer");
  }

  stop(): void {
    this.#server.kill("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Runs an app as `cdktf synth` does, and points what it wrote at this cloud. */
  synthesize(main: string, config: Readonly<Record<string, unknown>> = {}): void {
    const out = join(this.folder, "cdktf.out");
    rmSync(out, { recursive: true, force: true });
    writeFileSync(join(this.folder, "sallyport.config.json"), JSON.stringify(config));
    writeFileSync(
      join(this.folder, "cdktf.json"),
      '{"language":"typescript","app":"true","projectId":"test"}',
    );
    const { status, stderr } = spawnSync(process.execPath, [synth, join(root, main)], {
      cwd: this.folder,
      encoding: "utf8",
      env: { ...process.env, SALLYPORT_AGENT_BUNDLE: __filename, CDKTF_OUTDIR: out },
    });
    if (status !== 0) throw new Error(stderr);
    for (const id of this.stacks) {
      const file = join(out, "stacks", id, "cdk.tf.json");
      writeFileSync(file, JSON.stringify(this.#pointed(readFileSync(file, "utf8"))));
    }
  }

  get stacks(): readonly string[] {
    return readdirSync(join(this.folder, "cdktf.out/stacks"));
  }

  /** `cdktf deploy`, of what is synthesized. */
  deploy(...stacks: readonly string[]): Promise<Result> {
    const cdktf = join(root, "node_modules/cdktf-cli/bundle/bin/cdktf.js");
    const flags = ["--auto-approve", "--skip-synth", "--skip-provider-lock"];
    return this.#run(process.execPath, [cdktf, "deploy", ...stacks, ...flags], this.folder);
  }

  /** What a further deploy does, without the command around it. */
  apply(stack: string): Promise<Result> {
    return this.#terraform(stack, ["apply", "-auto-approve", "-no-color"]);
  }

  destroy(stack: string): Promise<Result> {
    return this.#terraform(stack, ["destroy", "-auto-approve", "-no-color"]);
  }

  /** What a deploy would change now. */
  async plan(stack: string): Promise<readonly Change[]> {
    const made = await this.#terraform(stack, ["plan", "-no-color", "-out=plan", "-detailed-exitcode"]);
    if (made.status === NOTHING_TO_DO) return [];
    if (made.status !== CHANGES) throw new Error(made.output);
    const shown = await this.#terraform(stack, ["show", "-json", "plan"]);
    const { resource_changes: changes = [] } = JSON.parse(shown.output.slice(shown.output.indexOf("{"))) as {
      resource_changes?: readonly PlannedChange[];
    };
    return changes
      .filter(({ change }) => !["no-op", "read"].includes(change.actions[0] ?? ""))
      .map(({ address, change }) => ({
        address,
        actions: change.actions,
        attributes: changedAttributes(change),
      }));
  }

  /** The text of the state, as Terraform keeps it. */
  async state(stack: string): Promise<string> {
    return (await this.#terraform(stack, ["state", "pull"])).output;
  }

  async resources(stack: string): Promise<readonly string[]> {
    const { output } = await this.#terraform(stack, ["state", "list"]);
    return output.split("\n").filter((line) => /^aws_/.test(line));
  }

  #pointed(text: string): unknown {
    const json = JSON.parse(text) as Record<string, Record<string, unknown>>;
    const { provider: providers } = JSON.parse(text) as { provider: { aws: [Record<string, unknown>] } };
    const [provider] = providers.aws;
    const endpoints = [Object.fromEntries(SERVICES.map((service) => [service, this.endpoint]))];
    return {
      ...json,
      provider: {
        aws: [
          {
            ...provider,
            ...{ access_key: "test", secret_key: "test", endpoints, s3_use_path_style: true },
            ...{ skip_credentials_validation: true, skip_requesting_account_id: true },
            skip_metadata_api_check: true,
          },
        ],
      },
      terraform: {
        ...json["terraform"],
        required_providers: { aws: { source: "hashicorp/aws", version: this.#mirror?.version } },
      },
    };
  }

  #terraform(stack: string, args: readonly string[]): Promise<Result> {
    return this.#run("terraform", args, join(this.folder, "cdktf.out/stacks", stack));
  }

  #run(command: string, args: readonly string[], cwd: string): Promise<Result> {
    const options = {
      ...{ cwd, encoding: "utf8" as const, timeout: TERRAFORM_TIMEOUT_MS, maxBuffer: 1 << 28 },
      env: {
        ...process.env,
        ...{ CHECKPOINT_DISABLE: "1", CDKTF_DISABLE_ANALYTICS: "1", TF_IN_AUTOMATION: "1", CI: "1" },
        TF_CLI_CONFIG_FILE: join(this.folder, "terraformrc"),
      },
    };
    return new Promise((resolve) => {
      const child = execFile(command, args, options, (_, stdout, stderr) =>
        resolve({ status: child.exitCode, output: stdout + stderr }),
      );
    });
  }

  /** Keeps Terraform's state of a stack while its configuration is synthesized anew. */
  resynthesize(main: string, config: Readonly<Record<string, unknown>>): void {
    const kept = join(this.folder, "kept");
    cpSync(join(this.folder, "cdktf.out"), kept, { recursive: true });
    this.synthesize(main, config);
    for (const id of this.stacks) {
      for (const name of ["terraform.tfstate", ".terraform", ".terraform.lock.hcl"]) {
        const from = join(kept, "stacks", id, name);
        const to = join(this.folder, "cdktf.out/stacks", id, name);
        mkdirSync(join(to, ".."), { recursive: true });
        if (existsSync(from)) cpSync(from, to, { recursive: true });
      }
    }
    rmSync(kept, { recursive: true });
  }
}

interface PlannedChange {
  readonly address: string;
  readonly change: {
    readonly actions: readonly string[];
    readonly before: Readonly<Record<string, unknown>> | null;
    readonly after: Readonly<Record<string, unknown>> | null;
    readonly after_unknown: Readonly<Record<string, unknown>>;
  };
}

function changedAttributes({
  before,
  after,
  after_unknown: unknown,
}: PlannedChange["change"]): readonly string[] {
  const names = new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})]);
  return [...names]
    .filter((name) => unknown[name] !== true)
    .filter((name) => JSON.stringify(before?.[name]) !== JSON.stringify(after?.[name]))
    .sort();
}

async function answers(endpoint: string): Promise<boolean> {
  return await fetch(`${endpoint}/moto-api/`).then(
    (response) => response.ok,
    () => false,
  );
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
