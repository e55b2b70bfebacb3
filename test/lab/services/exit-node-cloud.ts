/** The cloud that an exit node's synthesized stack asks for: its role may do what its policy says, and nothing is invented. */
import { AgentBundle } from "../../../constructs/agent-bundle.ts";
import { ExitNode, type ExitNodeProps } from "../../../constructs/exit-node.ts";
import { TunnelNetwork } from "../../../constructs/tunnel-network.ts";
import { type Synthesized, synthesize } from "../../constructs/synthesized.ts";
import type { TerraformStack } from "cdktf";
import { ACCOUNT, MemoryCloud, REGION } from "./memory-cloud.ts";

/** What AWS would have called the resources. */
const IDS: Readonly<Record<string, string>> = {
  "data.aws_partition.partition": "aws",
  "data.aws_partition.dns_suffix": "amazonaws.com",
  "data.aws_region.id": REGION,
  "data.aws_caller_identity.account_id": ACCOUNT,
  "aws_network_interface.id": "eni-ingress",
  "aws_ebs_volume.id": "vol-identity",
  "aws_s3_bucket.id": "lab-bucket",
};

export interface ExitNodeCloud {
  readonly cloud: MemoryCloud;
  readonly synthesized: Synthesized;
  /** Its autoscaling group; empty for a single instance. */
  readonly groupName: string;
  /** A text of the stack with references resolved. */
  resolve(text: string): string;
}

/**
 * An exit node i-own with the stack's role, and i-other with a role that may do nothing.
 * @param archive the agent
 */
export function exitNodeCloud(
  props: (stack: TerraformStack) => Partial<ExitNodeProps>,
  archive: string = __filename,
): ExitNodeCloud {
  const synthesized = synthesize((stack) => {
    const network = new TunnelNetwork(stack, "network", { privateSubnet: true });
    const bundle = new AgentBundle(stack, "bundle", { file: archive });
    new ExitNode(stack, "exit", { network, bundle, ...props(stack) });
  });
  const resolve = (text: string): string =>
    text
      .replaceAll(
        /(?<!\$)\$\{((?:data\.)?\w+)\.[\w-]+\.(\w+)\}/g,
        (whole, type: string, attribute: string) => {
          const value = IDS[`${type}.${attribute}`] ?? written(synthesized, type, attribute);
          if (value === undefined) throw new Error(`${whole} has no value in this test`);
          return value;
        },
      )
      .replaceAll("$${", "${");
  const cloud = new MemoryCloud();
  cloud.addRole("exit-role", resolve(String(synthesized.resource("aws_iam_role_policy")["policy"])));
  cloud.addRole("other-role");
  const [group] = synthesized.resources("aws_autoscaling_group");
  const groupName = group === undefined ? "" : String(group["name"]);
  const ofGroup = { "aws:autoscaling:groupName": groupName };
  const { region } = cloud;
  region.addInstance({
    id: "i-own",
    role: "exit-role",
    tags: { Name: "exit", ...(groupName === "" ? {} : ofGroup) },
    lifecycle:
      groupName === ""
        ? undefined
        : { groupName, state: "Pending:Wait", target: "InService", health: "Healthy" },
  });
  region.addInstance({ id: "i-other", role: "other-role", ip: "10.0.1.11", tags: { Name: "other" } });
  region.addInterface({ id: "eni-ingress", publicIp: "198.18.10.10", allocationId: "eipalloc-1" });
  region.addInterface({ id: "eni-foreign", privateIps: ["10.0.0.11"] });
  region.addVolume("vol-identity");
  region.addVolume("vol-foreign");
  if (groupName !== "") region.addGroup(groupName, ["i-own"]);
  return { cloud, synthesized, groupName, resolve };
}

function written({ json }: Synthesized, type: string, attribute: string): string | undefined {
  const resources = json["resource"] as Readonly<
    Record<string, Readonly<Record<string, Readonly<Record<string, unknown>>>>>
  >;
  const [only] = Object.values(resources[type] ?? {});
  const value = only?.[attribute];
  return typeof value === "string" ? value : undefined;
}
