/** What the stacks have in common: provider, backend, network, agent, outputs. */
import { AwsProvider } from "@cdktf/provider-aws/lib/provider/index.js";
import { LocalBackend, S3Backend, TerraformOutput, type TerraformStack } from "cdktf";
import type { Construct } from "constructs";
import type { Acme } from "../constructs/acme.ts";
import { AgentBundle } from "../constructs/agent-bundle.ts";
import { AuthKey } from "../constructs/auth-key.ts";
import { ALL_CHECKS } from "../constructs/checks/all.ts";
import { TUNNEL_PORT_OPEN } from "../constructs/checks/tunnel-port-open.ts";
import { addChecks } from "../constructs/checks/check.ts";
import { given } from "../constructs/given.ts";
import { HEALTH_TAG_FILTER } from "../constructs/health-tags.ts";
import { JoinParameter } from "../constructs/join-parameter.ts";
import { SMALLEST_INSTANCE } from "../constructs/machine-image.ts";
import { derpMap, type DerpMapRegion } from "../constructs/relay-region.ts";
import { type NodePlacement, TunnelNetwork } from "../constructs/tunnel-network.ts";
import type { StackConfig } from "./config.ts";

export interface StackProps extends StackConfig {
  readonly region: string;
  /** How many stacks of its kind there are before it: relays count their regions by it. */
  readonly index: number;
}

/** What every stack begins with: who is asked, where the state lies, what is checked. */
export function prepare(stack: TerraformStack, id: string, props: StackProps): void {
  const { region, backend } = props;
  new AwsProvider(stack, "aws", { region });
  if (backend?.kind === "s3") {
    const { bucket, prefix } = backend;
    const key = `${prefix}/${id}.tfstate`;
    new S3Backend(stack, { bucket, key, region: backend.region, encrypt: true });
    // A lock file beside the state, since Terraform 1.10; the bindings only know the older table.
    stack.addOverride("terraform.backend.s3.use_lockfile", true);
  }
  if (backend?.kind === "local") new LocalBackend(stack, { path: `terraform.${id}.tfstate` });
  addChecks(
    stack,
    // A closed port is asked for in order to see what happens.
    props.openTunnelPort ? ALL_CHECKS : ALL_CHECKS.filter((check) => check !== TUNNEL_PORT_OPEN),
  );
}

export function networkFor(scope: Construct, props: StackProps): NodePlacement {
  if (props.network !== undefined) return given(props.network) as NodePlacement;
  return new TunnelNetwork(scope, "network", {
    ...given({ cidrBlock: props.cidrBlock, availabilityZone: props.availabilityZone }),
    instanceType: props.instanceType ?? SMALLEST_INSTANCE[props.architecture],
    privateSubnet: props.egress !== "direct",
  });
}

/** Undefined where it is on the image. */
export function bundleFor(scope: Construct, { agent, architecture }: StackProps): AgentBundle | undefined {
  if (agent === "image") return undefined;
  return new AgentBundle(scope, "agent", { architecture, ...agent });
}

export function authKeyFor(scope: Construct, props: StackProps): AuthKey | undefined {
  const { authKeyParameter: parameterName, authKeyRegion: region, authKeySecretArn: secretArn } = props;
  if (parameterName === undefined && secretArn === undefined) return undefined;
  return new AuthKey(scope, "auth-key", given({ parameterName, region, secretArn }));
}

export function joinParameter(scope: Construct, stackId: string): JoinParameter {
  return new JoinParameter(scope, "join-token", { name: `/sallyport/${stackId}/join` });
}

/** What every stack tells, under the same names. */
export interface StackOutputs {
  /** Of what kind of machine, for the descriptions. */
  readonly what: string;
  readonly ingressPublicIp: string | undefined;
  readonly egressPublicIps: readonly string[];
  /** Undefined where there is no tunnel. */
  readonly tunnelPort: number | undefined;
  /** Undefined where its relays are another's. */
  readonly relay: DerpMapRegion | undefined;
}

export function outputs(stack: TerraformStack, { what, relay, ...told }: StackOutputs): void {
  output(
    stack,
    "ingressPublicIp",
    `The public IPv4 address by which ${what} is reached`,
    told.ingressPublicIp,
  );
  output(
    stack,
    "egressPublicIps",
    "The public addresses that its traffic to the internet bears",
    told.egressPublicIps,
  );
  output(stack, "tunnelPort", "The UDP port of its tunnel", told.tunnelPort ?? "none");
  const map = derpMap(relay === undefined ? [] : [relay]);
  output(stack, "derpMap", "A relay map with its own relay", JSON.stringify(map));
  output(stack, "healthTagFilter", "For aws ec2 describe-instances --filters", HEALTH_TAG_FILTER);
}

export function output(stack: TerraformStack, name: string, description: string, value: unknown): void {
  if (value !== undefined) new TerraformOutput(stack, name, { value, description });
}

/** Without the fields that were not given. */
export function acmeFor({ acme }: StackProps): { readonly acme?: Acme } {
  return acme === undefined ? {} : { acme: given(acme) as Acme };
}

/** Relays of one network need numbers and names of their own. */
export function relayRegionFor({ relay = {}, index, region }: StackProps) {
  const { regionId = 900, regionCode } = relay;
  return {
    ...given(relay),
    regionId: regionId + index,
    regionCode: regionCode === undefined ? region : index === 0 ? regionCode : `${regionCode}-${index + 1}`,
  };
}
