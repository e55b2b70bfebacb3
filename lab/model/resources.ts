/** All stacks' resources in one table: by type, and by the id that others refer to them by. */
import { Ip, Prefix } from "../../agent/src/base/address.ts";
import { ParseError, UsageError } from "../../agent/src/base/errors.ts";
import type { TerraformDocument } from "../terraform.ts";
import { type Attributes, asText, type EvaluatedResource, type Value } from "../terraform-values.ts";

export interface StackResource extends EvaluatedResource {
  readonly stack: string;
  readonly stackIndex: number;
  readonly region: string;
  /** Attributes that only an apply gives. */
  readonly arn: string | undefined;
  readonly publicIp: string | undefined;
  readonly generatedIpv6: string | undefined;
}

export class Resources {
  readonly all: readonly StackResource[];
  readonly notModelled: readonly string[];
  readonly #byId: ReadonlyMap<string, StackResource>;

  /** @param existing what is there before the stacks. @throws UsageError where an expression can't be resolved */
  constructor(documents: readonly TerraformDocument[], existing: readonly StackResource[] = []) {
    const name = (document: TerraformDocument, address: string): string =>
      documents.length > 1 ? `${document.name}/${address}` : address;
    this.all = [
      ...existing,
      ...documents.flatMap((document, stackIndex) =>
        document.resources
          .filter(({ type }) => MODELLED.has(type))
          .map((resource) => ({
            type: resource.type,
            name: resource.name,
            address: name(document, resource.address),
            id: document.id(resource),
            values: document.attributes(resource),
            stack: document.name,
            stackIndex,
            region: document.regionOf(resource),
            arn: document.computed(resource, "arn"),
            publicIp: document.computed(resource, "public_ip"),
            generatedIpv6: document.computed(resource, "ipv6_cidr_block"),
          })),
      ),
    ];
    this.notModelled = documents.flatMap((document) =>
      document.resources
        .filter(({ type }) => !MODELLED.has(type))
        .map(({ address }) => name(document, address)),
    );
    this.#byId = new Map(this.all.map((one) => [`${one.type} ${one.id}`, one]));
  }

  of(type: string): readonly StackResource[] {
    return this.all.filter((one) => one.type === type);
  }

  find(type: string, id: Value | undefined): StackResource | undefined {
    return this.#byId.get(`${type} ${asText(id)}`);
  }

  /** @param by the resource that refers to it, and `what` it is in people's words. @throws UsageError */
  get(type: string, id: Value | undefined, by: EvaluatedResource, what: string): StackResource {
    const found = this.find(type, id);
    if (found !== undefined) return found;
    throw new UsageError(
      "lab-stack",
      `${by.address} refers to the ${what} ${asText(id)}, which isn't in this stack: give its stack, too, or describe it under “existing” of a scenario`,
    );
  }
}

/** Types that are understood. */
const MODELLED = new Set([
  "aws_vpc",
  "aws_subnet",
  "aws_internet_gateway",
  "aws_egress_only_internet_gateway",
  "aws_nat_gateway",
  "aws_route_table",
  "aws_route",
  "aws_route_table_association",
  "aws_eip",
  "aws_eip_association",
  "aws_network_interface",
  "aws_network_interface_attachment",
  "aws_security_group",
  "aws_vpc_security_group_ingress_rule",
  "aws_vpc_security_group_egress_rule",
  "aws_instance",
  "aws_launch_template",
  "aws_autoscaling_group",
  "aws_autoscaling_lifecycle_hook",
  "aws_ebs_volume",
  "aws_volume_attachment",
  "aws_lb",
  "aws_lb_target_group",
  "aws_lb_listener",
  "aws_lb_target_group_attachment",
  "aws_iam_role",
  "aws_iam_role_policy",
  "aws_iam_instance_profile",
  "aws_ssm_parameter",
  "aws_secretsmanager_secret",
  "aws_secretsmanager_secret_version",
  "aws_s3_bucket",
  "aws_s3_object",
]);

/** @throws UsageError that names the place */
export function prefixAt(value: Value | undefined, place: string): Prefix {
  return parsedAt(place, () => Prefix.parse(typeof value === "string" ? value : ""));
}

export function ipAt(value: Value | undefined, place: string): Ip {
  return parsedAt(place, () => Ip.parse(typeof value === "string" ? value : ""));
}

function parsedAt<T>(place: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof ParseError)) throw error;
    throw new UsageError("lab-stack", `${place}: ${error.message}`);
  }
}

/** The address `n` after the network's own. */
export function nthAddress(network: Prefix, n: number): Ip {
  const bytes = network.ip.bytes.slice();
  let carry = n;
  for (let i = bytes.length - 1; i >= 0 && carry > 0; i--) {
    const sum = (bytes[i] ?? 0) + carry;
    bytes[i] = sum & 0xff;
    carry = sum >> 8;
  }
  return Ip.fromBytes(bytes);
}

/** @throws UsageError when the resource lacks an attribute that the lab needs */
export function needed(values: Attributes, key: string, owner: EvaluatedResource): Value {
  const value = values[key];
  if (value !== undefined && value !== null) return value;
  throw new UsageError("lab-stack", `${owner.address} has no ${key}`);
}
