/** Interfaces, instances, templates and groups, NAT gateways and load balancers. */
import type { Ip } from "../../agent/src/base/address.ts";
import { UsageError } from "../../agent/src/base/errors.ts";
import { madeUpId } from "../terraform-fixture.ts";
import {
  asFlag,
  asNumber,
  asObjects,
  asStrings,
  asText,
  asTexts,
  type Attributes,
  optionalText,
  type Value,
} from "../terraform-values.ts";
import type { Addresses } from "./addresses.ts";
import type {
  Balancer,
  Group,
  Hook,
  Instance,
  Interface,
  Listener,
  NatGateway,
  PublicAddress,
  SecurityGroup,
  Subnet,
  Template,
} from "./model.ts";
import { ipAt, needed, type Resources, type StackResource } from "./resources.ts";

export interface Networks {
  readonly resources: Resources;
  readonly subnets: readonly Subnet[];
  readonly securityGroups: readonly SecurityGroup[];
  readonly addresses: Addresses;
}

export function readInstances(networks: Networks): readonly Instance[] {
  const { resources } = networks;
  return resources.of("aws_instance").map((one) => {
    if (asObjects(one.values["network_interface"]).length > 0) {
      throw new UsageError(
        "lab-stack",
        `${one.address} has network_interface blocks; the lab reads aws_network_interface_attachment resources`,
      );
    }
    const template = readTemplate(networks, one, one.values, asText(one.values["subnet_id"] ?? null));
    return {
      id: one.id,
      address: one.address,
      template,
      primary: primaryInterface(networks, one, template),
      attached: resources
        .of("aws_network_interface_attachment")
        .filter((attachment) => attachment.values["instance_id"] === one.id)
        .map((attachment) => ({
          id: attachment.id,
          interfaceId: resources.get(
            "aws_network_interface",
            attachment.values["network_interface_id"],
            attachment,
            "network interface",
          ).id,
          deviceIndex: asNumber(attachment.values["device_index"], 1),
        })),
      volumes: resources
        .of("aws_volume_attachment")
        .filter((attachment) => attachment.values["instance_id"] === one.id)
        .map((attachment) => ({
          volumeId: resources.get("aws_ebs_volume", attachment.values["volume_id"], attachment, "volume").id,
          device: asText(attachment.values["device_name"] ?? "/dev/sdf"),
        })),
    };
  });
}

export function readInterfaces(networks: Networks): readonly Interface[] {
  return networks.resources.of("aws_network_interface").map((one) => {
    const subnet = subnetOf(networks, one, one.values["subnet_id"]);
    const [written] = asStrings(one.values["private_ips"]);
    const privateIp = privateAddress(networks, subnet, written, one);
    return {
      id: one.id,
      address: one.address,
      subnet,
      privateIp,
      ipv6: ipv6Of(networks, subnet, privateIp, one),
      groups: groupsOf(networks, one, one.values["security_groups"]),
      sourceDestCheck: asFlag(one.values["source_dest_check"], true),
      description: optionalText(one.values["description"]) ?? "",
      tags: asTexts(one.values["tags"]),
      publicAddress: elasticOf(networks.resources, "network_interface_id", one.id),
    };
  });
}

export function readNatGateways(networks: Networks): readonly NatGateway[] {
  const { resources } = networks;
  return resources
    .of("aws_nat_gateway")
    .filter((one) => one.values["connectivity_type"] !== "private")
    .map((one) => {
      const subnet = subnetOf(networks, one, one.values["subnet_id"]);
      const address = resources.get("aws_eip", one.values["allocation_id"], one, "Elastic IP");
      return {
        id: one.id,
        address: one.address,
        subnet,
        privateIp: privateAddress(networks, subnet, optionalText(one.values["private_ip"]), one),
        publicIp: elasticIp(address),
      };
    });
}

export function readBalancers(networks: Networks): readonly Balancer[] {
  const { resources } = networks;
  return resources.of("aws_lb").map((one) => {
    if (one.values["load_balancer_type"] !== "network") {
      throw new UsageError(
        "lab-stack",
        `${one.address} is no network load balancer, the only kind the lab has`,
      );
    }
    const [mapping] = asObjects(one.values["subnet_mapping"]);
    const subnet = subnetOf(networks, one, mapping?.["subnet_id"]);
    const address = resources.get("aws_eip", mapping?.["allocation_id"], one, "Elastic IP");
    return {
      id: one.id,
      address: one.address,
      subnet,
      privateIp: networks.addresses.privateIp(subnet),
      publicIp: elasticIp(address),
      listeners: resources
        .of("aws_lb_listener")
        .filter((listener) => listener.values["load_balancer_arn"] === one.id)
        .map((listener) => readListener(resources, listener)),
    };
  });
}

export function readGroups(networks: Networks): readonly Group[] {
  const { resources } = networks;
  return resources.of("aws_autoscaling_group").map((one) => {
    const { values } = one;
    const reference = asObjects(values["launch_template"])[0] ?? {};
    const template = resources.get("aws_launch_template", reference["id"], one, "launch template");
    const [subnetId] = asStrings(values["vpc_zone_identifier"]);
    const tags = asObjects(values["tag"])
      .filter((tag) => tag["propagate_at_launch"] === true)
      .map((tag) => [asText(tag["key"]), asText(tag["value"])]);
    const name = asText(values["name"] ?? one.id);
    return {
      id: one.id,
      address: one.address,
      name,
      arn: asText(one.arn ?? null),
      region: one.region,
      template: {
        ...readTemplate(networks, template, flattened(template), subnetId),
        tags: {
          ...asTexts(template.values["tags"]),
          ...(Object.fromEntries(tags) as Record<string, string>),
        },
      },
      minSize: numberOf(one, "min_size") ?? 0,
      maxSize: numberOf(one, "max_size") ?? 1,
      desiredCapacity: numberOf(one, "desired_capacity") ?? numberOf(one, "min_size") ?? 1,
      hooks: [
        ...asObjects(values["initial_lifecycle_hook"]).map(readHook),
        ...resources
          .of("aws_autoscaling_lifecycle_hook")
          .filter((hook) => hook.values["autoscaling_group_name"] === name)
          .map((hook) => readHook(hook.values)),
      ],
    };
  });
}

/** A launch template has its network settings in a block, and its user data encoded. */
function flattened(template: StackResource): Attributes {
  const { values } = template;
  const network = firstInterface(template);
  const profile = asObjects(values["iam_instance_profile"])[0] ?? {};
  return {
    ...values,
    ami: values["image_id"] ?? null,
    subnet_id: network["subnet_id"] ?? null,
    vpc_security_group_ids: network["security_groups"] ?? values["vpc_security_group_ids"] ?? [],
    associate_public_ip_address: network["associate_public_ip_address"] ?? null,
    user_data: null,
    user_data_base64: values["user_data"] ?? null,
    iam_instance_profile: profile["name"] ?? null,
  };
}

/** The only one that instances of a group start with. @throws UsageError where there are others */
function firstInterface({ address, values }: StackResource): Attributes {
  const [first = {}, ...more] = asObjects(values["network_interfaces"]);
  const refuse = (n: number, why: string): never => {
    throw new UsageError("lab-stack", `${address}.network_interfaces[${n}] ${why}`);
  };
  if (more.length > 0) {
    const remedy = "let what runs on it attach the others, or give the group's instances one";
    refuse(1, `is one more than the lab starts an instance of a group with: ${remedy}`);
  }
  const index = asNumber(first["device_index"], 0);
  if (index !== 0) refuse(0, `has the device index ${index}: an instance's first interface has 0`);
  if (optionalText(first["network_interface_id"]) !== undefined) {
    refuse(0, "names an interface that exists: the lab makes one for each instance of a group");
  }
  return first;
}

function numberOf({ address, values }: StackResource, key: string): number | undefined {
  const written = values[key];
  if (written === undefined || written === null) return undefined;
  const number = asNumber(written, 0);
  if (Number.isFinite(number)) return number;
  throw new UsageError("lab-stack", `${address}.${key} is not a number: ${asText(written)}`);
}

function readTemplate(
  networks: Networks,
  owner: StackResource,
  values: Attributes,
  subnetId: string | undefined,
): Template {
  const subnet = subnetOf(networks, owner, subnetId ?? values["subnet_id"]);
  const profile = optionalText(values["iam_instance_profile"]);
  const options = asObjects(values["metadata_options"])[0] ?? {};
  return {
    subnet,
    groups: groupsOf(networks, owner, values["vpc_security_group_ids"]),
    publicAddress: asFlag(values["associate_public_ip_address"], subnet.publicAddressAtLaunch),
    sourceDestCheck: asFlag(values["source_dest_check"], true),
    instanceType: optionalText(values["instance_type"]) ?? "t4g.nano",
    imageId: optionalText(values["ami"]) ?? "",
    userData: userData(values),
    tags: asTexts(values["tags"]),
    instanceProfile: profile,
    role: optionalText(networks.resources.find("aws_iam_instance_profile", profile)?.values["role"]),
    metadata: {
      httpEndpoint: options["http_endpoint"] === "disabled" ? "disabled" : "enabled",
      httpTokens: options["http_tokens"] === "required" ? "required" : "optional",
      httpPutResponseHopLimit: asNumber(options["http_put_response_hop_limit"], 1),
      instanceMetadataTags: options["instance_metadata_tags"] === "enabled" ? "enabled" : "disabled",
    },
  };
}

function primaryInterface(networks: Networks, one: StackResource, template: Template): Interface {
  const { subnet } = template;
  const privateIp = privateAddress(networks, subnet, optionalText(one.values["private_ip"]), one);
  return {
    id: madeUpId("eni", `${one.id}/0`),
    address: one.address,
    subnet,
    privateIp,
    ipv6: ipv6Of(networks, subnet, privateIp, one),
    groups: template.groups,
    sourceDestCheck: template.sourceDestCheck,
    description: "",
    tags: {},
    publicAddress:
      elasticOf(networks.resources, "instance_id", one.id) ??
      (template.publicAddress ? dynamicAddress(networks, one.stackIndex) : undefined),
  };
}

export function dynamicAddress({ addresses, resources }: Networks, stackIndex: number): PublicAddress {
  const elastic = resources.of("aws_eip").filter((one) => one.stackIndex === stackIndex).length;
  const ip = addresses.dynamicPublicIp(stackIndex, elastic);
  return { ip, allocationId: undefined, associationId: undefined };
}

function elasticOf(resources: Resources, by: string, id: string): PublicAddress | undefined {
  const association = resources.of("aws_eip_association").find((one) => one.values[by] === id);
  const key = by === "instance_id" ? "instance" : "network_interface";
  const elastic =
    association === undefined
      ? resources.of("aws_eip").find((one) => one.values[key] === id)
      : resources.get("aws_eip", association.values["allocation_id"], association, "Elastic IP");
  if (elastic === undefined) return undefined;
  const associationId = association?.id ?? madeUpId("eipassoc", elastic.id);
  return { ip: elasticIp(elastic), allocationId: elastic.id, associationId };
}

const elasticIp = (elastic: StackResource): Ip => ipAt(elastic.publicIp, `${elastic.address}.public_ip`);

function readListener(resources: Resources, listener: StackResource): Listener {
  const action = asObjects(listener.values["default_action"])[0] ?? {};
  const group = resources.get("aws_lb_target_group", action["target_group_arn"], listener, "target group");
  const groupPort = asNumber(group.values["port"], 0);
  const health = asObjects(group.values["health_check"])[0] ?? {};
  const protocol = asText(listener.values["protocol"]).toLowerCase();
  if (protocol !== "udp" && protocol !== "tcp") {
    throw new UsageError(
      "lab-stack",
      `${listener.address} has the protocol ${protocol}; the lab forwards UDP and TCP`,
    );
  }
  return {
    protocol,
    port: Number(needed(listener.values, "port", listener)),
    healthCheckPort: asNumber(health["port"], groupPort),
    targets: resources
      .of("aws_lb_target_group_attachment")
      .filter((one) => one.values["target_group_arn"] === group.id)
      .map((one) => ({
        instanceId: resources.get("aws_instance", one.values["target_id"], one, "instance").id,
        port: asNumber(one.values["port"], groupPort),
      })),
    groups: resources
      .of("aws_autoscaling_group")
      .filter((one) => asStrings(one.values["target_group_arns"]).includes(group.id))
      .map((one) => ({ name: asText(one.values["name"] ?? one.id), port: groupPort })),
  };
}

function readHook(values: Attributes): Hook {
  return {
    name: asText(values["name"]),
    transition:
      values["lifecycle_transition"] === "autoscaling:EC2_INSTANCE_TERMINATING"
        ? "autoscaling:EC2_INSTANCE_TERMINATING"
        : "autoscaling:EC2_INSTANCE_LAUNCHING",
    heartbeatTimeoutSeconds: asNumber(values["heartbeat_timeout"], 3600),
    defaultResult: values["default_result"] === "CONTINUE" ? "CONTINUE" : "ABANDON",
  };
}

function subnetOf({ resources, subnets }: Networks, owner: StackResource, id: Value | undefined): Subnet {
  const found = subnets.find((one) => one.id === id);
  if (found !== undefined) return found;
  resources.get("aws_subnet", id, owner, "subnet");
  throw new UsageError("lab-stack", `${owner.address} is in a subnet that isn't in this stack`);
}

function groupsOf(
  networks: Networks,
  owner: StackResource,
  ids: Value | undefined,
): readonly SecurityGroup[] {
  return asStrings(ids).map((id) => {
    const found = networks.securityGroups.find((one) => one.id === id);
    if (found !== undefined) return found;
    networks.resources.get("aws_security_group", id, owner, "security group");
    throw new UsageError(
      "lab-stack",
      `${owner.address} has the security group ${id}, which isn't in this stack`,
    );
  });
}

function privateAddress(
  { addresses }: Networks,
  subnet: Subnet,
  written: string | undefined,
  owner: StackResource,
): Ip {
  if (written === undefined) return addresses.privateIp(subnet);
  const ip = ipAt(written, `${owner.address}: its private address`);
  if (subnet.cidr.contains(ip)) return addresses.reserve(subnet, ip);
  throw new UsageError(
    "lab-stack",
    `${owner.address} has the address ${ip.text}, outside of ${subnet.cidr.text}`,
  );
}

function ipv6Of(
  { addresses }: Networks,
  subnet: Subnet,
  privateIp: Ip,
  owner: StackResource,
): Ip | undefined {
  const [written] = asStrings(owner.values["ipv6_addresses"]);
  if (written !== undefined) return ipAt(written, `${owner.address}.ipv6_addresses`);
  const asked = asNumber(owner.values["ipv6_address_count"], subnet.ipv6AtLaunch ? 1 : 0);
  return asked > 0 ? addresses.ipv6(subnet, privateIp) : undefined;
}

function userData(values: Attributes): string {
  const [plain, encoded] = [values["user_data"], values["user_data_base64"]];
  if (typeof plain === "string") return plain;
  return typeof encoded === "string" ? Buffer.from(encoded, "base64").toString("utf8") : "";
}
