import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { HEALTH_TAG_KEYS } from "../../constructs/health-tags.ts";
import { requires } from "../skip.ts";
import { findProviderMirror } from "../stacks/provider-mirror.ts";
import { type Change, Cloud } from "./cloud.ts";
import { PYTHON_NEEDS, pythonTools } from "./python.ts";

/**
 * What moto tells otherwise than AWS, so that Terraform wants to change it for ever.
 * - The groups of an instance that was launched with an explicit public address are those of its interface.
 * - It keeps no longest lifetime of a group's instances.
 * - It takes a launch template's own tags for tags of what the template makes; the group follows the template.
 */
const EMULATOR_GAPS: readonly { readonly type: string; readonly attributes: readonly string[] }[] = [
  { type: "aws_instance", attributes: ["vpc_security_group_ids"] },
  {
    type: "aws_autoscaling_group",
    attributes: ["capacity_reservation_specification", "launch_template", "max_instance_lifetime"],
  },
  { type: "aws_launch_template", attributes: ["tag_specifications"] },
];

const hasTerraform = spawnSync("terraform", ["version"]).status === 0;
const mirror = findProviderMirror();
const terraformReady = hasTerraform && mirror !== undefined;
const bin = terraformReady ? pythonTools() : undefined;
const withTerraform = requires(
  "terraform-provider-aws",
  terraformReady,
  "Terraform and a filesystem mirror with its AWS provider are needed: name it in TF_CLI_CONFIG_FILE",
);
const it = terraformReady ? requires("moto", bin !== undefined, PYTHON_NEEDS) : withTerraform;
const test = bin === undefined ? it : it.concurrent;

const STACK = "exit-node-stack";
const MAIN = "stacks/main.ts";

/** The provider waits more than it works, so each story has a cloud of its own and they run side by side. */
const inCloud = (story: (cloud: Cloud) => Promise<void>) => async () => {
  const cloud = await Cloud.start(bin ?? "");
  try {
    await story(cloud);
  } finally {
    cloud.stop();
  }
};

/** As the node writes it: an auth key and the pin of its certificate. */
const TOKEN = `spkey-known-to-nobody-else#sha256-raw:${"5a".repeat(32)}`;

/** Two agents that differ. */
function agents(cloud: Cloud): readonly [string, string] {
  const files = ["one", "two"].map((name) => join(cloud.folder, name));
  for (const file of files) writeFileSync(file, file);
  return [files[0] ?? "", files[1] ?? ""];
}

test(
  "the single node: deployed, nothing left to do, tags survive, a new agent is a new instance, destroyed",
  inCloud(async (cloud) => {
    const [one, two] = agents(cloud);
    cloud.synthesize(MAIN, { agent: { file: one } });
    expect(await cloud.deploy(STACK)).toMatchObject({ status: 0 });
    expect(await readJoinToken(cloud)).toBe("pending");

    await writeHealthTags(cloud);
    await writeJoinToken(cloud, TOKEN);
    expect(beyondGaps(await cloud.plan(STACK))).toEqual([]);
    expect(await cloud.apply(STACK)).toMatchObject({ status: 0 });
    expect(await healthTags(cloud)).toEqual(HEALTH_TAG_KEYS.map((key) => `${key}=from the agent`).sort());
    expect(await readJoinToken(cloud)).toBe(TOKEN);
    const state = await cloud.state(STACK);
    expect(state).toContain("aws_ssm_parameter");
    for (const secret of ["pending", TOKEN, ...TOKEN.split("#")]) expect(state).not.toContain(secret);

    cloud.resynthesize(MAIN, { agent: { file: two } });
    const replaced = (await cloud.plan(STACK)).filter(({ actions }) => actions.join() === "delete,create");
    expect(
      replaced.map(({ address }) => address.split(".")[0] ?? "").toSorted((a, b) => a.localeCompare(b)),
    ).toEqual([
      ...["aws_instance", "aws_network_interface_attachment", "aws_s3_object", "aws_volume_attachment"],
    ]);

    expect(await cloud.destroy(STACK)).toMatchObject({ status: 0 });
    expect(await cloud.resources(STACK)).toEqual([]);
    expect(await ec2(cloud, "DescribeInstances")).not.toMatch(/<name>(running|pending|stopped)<\/name>/);
    expect(await ec2(cloud, "DescribeAddresses")).not.toContain("<publicIp>");
  }),
  1_800_000,
);

test(
  "the self-healing node: deployed, nothing left to do, a new agent is a new template and a refresh, taken down before its rights",
  inCloud(async (cloud) => {
    const [one, two] = agents(cloud);
    const config = { egress: "nat-gateway", selfHealing: true };
    cloud.synthesize(MAIN, { ...config, agent: { file: one } });
    expect(await cloud.deploy(STACK)).toMatchObject({ status: 0 });
    expect(beyondGaps(await cloud.plan(STACK))).toEqual([]);
    cloud.resynthesize(MAIN, { ...config, agent: { file: two } });
    const changes = await cloud.plan(STACK);
    const template = changes.find(({ address }) => address.startsWith("aws_launch_template."));
    expect(template).toMatchObject({
      actions: ["update"],
      attributes: expect.arrayContaining(["user_data"]),
    });
    const group = changes.find(({ address }) => address.startsWith("aws_autoscaling_group."));
    expect(group?.actions).toEqual(["update"]);
    expect(await cloud.state(STACK)).toContain('"instance_refresh"');

    const { status, output } = await cloud.destroy(STACK);
    expect({ status, left: await cloud.resources(STACK) }).toEqual({ status: 0, left: [] });
    const removed = (what: RegExp) => output.split("\n").findIndex((line) => what.test(line));
    const groupIsGone = removed(/^aws_autoscaling_group\..*: Destruction complete/);
    expect(groupIsGone).toBeGreaterThan(0);
    for (const needed of ["aws_iam_role_policy", "aws_vpc_security_group_egress_rule", "aws_nat_gateway"]) {
      expect(removed(new RegExp(`^${needed}\\..*: Destroying`))).toBeGreaterThan(groupIsGone);
    }
  }),
  1_800_000,
);

test(
  "the multi-region example is deployed whole",
  inCloud(async (cloud) => {
    cloud.synthesize("examples/multi-region/main.ts");
    expect(await cloud.deploy("*")).toMatchObject({ status: 0 });
    const plans = await Promise.all(cloud.stacks.map((stack) => cloud.plan(stack)));
    for (const plan of plans) expect(beyondGaps(plan)).toEqual([]);
  }),
  1_800_000,
);

function beyondGaps(changes: readonly Change[]): readonly Change[] {
  return changes.filter(
    ({ address, actions, attributes }) =>
      !EMULATOR_GAPS.some(
        (gap) =>
          actions.join() === "update" &&
          address.startsWith(`${gap.type}.`) &&
          attributes.every((attribute) => gap.attributes.includes(attribute)),
      ),
  );
}

/** EC2's own form of requests; moto checks no signature. */
async function ec2(
  cloud: Cloud,
  action: string,
  params: Readonly<Record<string, string>> = {},
): Promise<string> {
  const body = new URLSearchParams({ Action: action, Version: "2016-11-15", ...params });
  const credential = "Credential=test/20260101/us-east-1/ec2/aws4_request";
  const headers = { authorization: `AWS4-HMAC-SHA256 ${credential}, SignedHeaders=host, Signature=0` };
  return await (await fetch(cloud.endpoint, { method: "POST", body, headers })).text();
}

async function ssm(
  cloud: Cloud,
  action: string,
  request: object,
): Promise<Readonly<Record<string, unknown>>> {
  const credential = "Credential=test/20260101/us-east-1/ssm/aws4_request";
  const headers = {
    authorization: `AWS4-HMAC-SHA256 ${credential}, SignedHeaders=host, Signature=0`,
    "content-type": "application/x-amz-json-1.1",
    "x-amz-target": `AmazonSSM.${action}`,
  };
  const answer = await fetch(cloud.endpoint, { method: "POST", body: JSON.stringify(request), headers });
  return (await answer.json()) as Readonly<Record<string, unknown>>;
}

const JOIN_PARAMETER = `/sallyport/${STACK}/join`;

async function writeJoinToken(cloud: Cloud, token: string): Promise<void> {
  await ssm(cloud, "PutParameter", {
    Name: JOIN_PARAMETER,
    Value: token,
    Type: "SecureString",
    Overwrite: true,
  });
}

async function readJoinToken(cloud: Cloud): Promise<unknown> {
  const { Parameter: parameter } = await ssm(cloud, "GetParameter", {
    Name: JOIN_PARAMETER,
    WithDecryption: true,
  });
  return (parameter as { readonly Value?: unknown } | undefined)?.Value;
}

async function writeHealthTags(cloud: Cloud): Promise<void> {
  const [, id = ""] = /<instanceId>(i-[0-9a-f]+)</.exec(await ec2(cloud, "DescribeInstances")) ?? [];
  const tags = HEALTH_TAG_KEYS.flatMap((key, i) => [
    [`Tag.${i + 1}.Key`, key],
    [`Tag.${i + 1}.Value`, "from the agent"],
  ]);
  await ec2(cloud, "CreateTags", { "ResourceId.1": id, ...Object.fromEntries(tags) });
}

async function healthTags(cloud: Cloud): Promise<readonly string[]> {
  const tags = [
    ...(await ec2(cloud, "DescribeInstances")).matchAll(/<key>(sallyport:\w+)<\/key>\s*<value>([^<]*)</g),
  ];
  return tags.map(([, key = "", value = ""]) => `${key}=${value}`).sort();
}
