/**
 * What the resources of some stacks mean: networks, machines, storage and rights, as typed values with all references resolved.
 * Nothing here changes; lab/cloud/ has what does.
 */
import type { Ip, Prefix } from "../../agent/src/base/address.ts";

export interface CloudModel {
  readonly vpcs: readonly Vpc[];
  readonly subnets: readonly Subnet[];
  readonly securityGroups: readonly SecurityGroup[];
  /** Those that stacks name; an instance's first one comes with the instance. */
  readonly interfaces: readonly Interface[];
  readonly natGateways: readonly NatGateway[];
  readonly balancers: readonly Balancer[];
  readonly instances: readonly Instance[];
  readonly groups: readonly Group[];
  readonly volumes: readonly Volume[];
  readonly roles: readonly Role[];
  readonly parameters: readonly Parameter[];
  readonly secrets: readonly Secret[];
  readonly buckets: readonly Bucket[];
  readonly regions: readonly string[];
  /** Addresses of the resources that have no counterpart in the lab. */
  readonly notModelled: readonly string[];
}

/** Where something comes from: for messages, and for what is told apart by stack. */
interface Named {
  readonly id: string;
  readonly address: string;
}

export interface Vpc extends Named {
  readonly stack: string;
  readonly stackIndex: number;
  readonly region: string;
  readonly cidr: Prefix;
  readonly ipv6: Prefix | undefined;
}

export interface Subnet extends Named {
  readonly vpc: Vpc;
  readonly zone: string;
  readonly cidr: Prefix;
  readonly ipv6: Prefix | undefined;
  readonly publicAddressAtLaunch: boolean;
  readonly ipv6AtLaunch: boolean;
  readonly routes: readonly Route[];
}

export interface Route {
  readonly destination: Prefix;
  readonly target: RouteTarget;
}

export type RouteTarget =
  | { readonly kind: "internet" }
  | { readonly kind: "egress-only" }
  | { readonly kind: "nat"; readonly id: string }
  | { readonly kind: "interface"; readonly id: string };

export interface SecurityGroup extends Named {
  readonly name: string;
  readonly ingress: readonly SecurityRule[];
  readonly egress: readonly SecurityRule[];
}

export interface SecurityRule {
  readonly address: string;
  /** A name that nftables knows, or "all". */
  readonly protocol: string;
  /** Both inclusive; undefined for all ports and for protocols that have none. */
  readonly ports: { readonly from: number; readonly to: number } | undefined;
  readonly peer: RulePeer;
}

export type RulePeer =
  { readonly kind: "prefix"; readonly prefix: Prefix } | { readonly kind: "group"; readonly id: string };

export interface PublicAddress {
  readonly ip: Ip;
  /** Undefined for a dynamic one. */
  readonly allocationId: string | undefined;
  readonly associationId: string | undefined;
}

export interface Interface extends Named {
  readonly subnet: Subnet;
  readonly privateIp: Ip;
  readonly ipv6: Ip | undefined;
  readonly groups: readonly SecurityGroup[];
  readonly sourceDestCheck: boolean;
  readonly description: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly publicAddress: PublicAddress | undefined;
}

export interface NatGateway extends Named {
  readonly subnet: Subnet;
  readonly privateIp: Ip;
  readonly publicIp: Ip;
}

export interface Balancer extends Named {
  readonly subnet: Subnet;
  readonly privateIp: Ip;
  readonly publicIp: Ip;
  readonly listeners: readonly Listener[];
}

export interface Listener {
  readonly protocol: "udp" | "tcp";
  readonly port: number;
  readonly healthCheckPort: number;
  readonly targets: readonly { readonly instanceId: string; readonly port: number }[];
  /** Autoscaling groups whose instances are targets, by name. */
  readonly groups: readonly { readonly name: string; readonly port: number }[];
}

/** What a machine is launched from: an instance's own attributes, or a launch template's. */
export interface Template {
  readonly subnet: Subnet;
  readonly groups: readonly SecurityGroup[];
  readonly publicAddress: boolean;
  readonly sourceDestCheck: boolean;
  readonly instanceType: string;
  readonly imageId: string;
  readonly userData: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly instanceProfile: string | undefined;
  readonly role: string | undefined;
  readonly metadata: {
    readonly httpEndpoint: "enabled" | "disabled";
    readonly httpTokens: "required" | "optional";
    readonly httpPutResponseHopLimit: number;
    readonly instanceMetadataTags: "enabled" | "disabled";
  };
}

export interface Instance extends Named {
  readonly template: Template;
  /** Its first one. */
  readonly primary: Interface;
  /** The others, with their device index. */
  readonly attached: readonly {
    readonly id: string;
    readonly interfaceId: string;
    readonly deviceIndex: number;
  }[];
  readonly volumes: readonly { readonly volumeId: string; readonly device: string }[];
}

export interface Group extends Named {
  readonly name: string;
  readonly arn: string;
  readonly region: string;
  readonly template: Template;
  readonly minSize: number;
  readonly maxSize: number;
  readonly desiredCapacity: number;
  readonly hooks: readonly Hook[];
}

export interface Hook {
  readonly name: string;
  readonly transition: "autoscaling:EC2_INSTANCE_LAUNCHING" | "autoscaling:EC2_INSTANCE_TERMINATING";
  readonly heartbeatTimeoutSeconds: number;
  readonly defaultResult: "CONTINUE" | "ABANDON";
}

export interface Volume extends Named {
  readonly region: string;
  readonly zone: string;
  readonly sizeGib: number;
  readonly tags: Readonly<Record<string, string>>;
}

export interface Role {
  readonly name: string;
  readonly arn: string;
  readonly policies: readonly string[];
  readonly assumeRolePolicy: string;
}

export interface Parameter {
  readonly region: string;
  readonly name: string;
  readonly arn: string;
  readonly type: "String" | "StringList" | "SecureString";
  readonly value: string;
}

export interface Secret {
  readonly region: string;
  readonly arn: string;
  readonly name: string;
  readonly value: string | undefined;
}

export interface Bucket {
  readonly region: string;
  readonly name: string;
  /** A file of this machine, or the content itself. */
  readonly objects: readonly {
    readonly key: string;
    readonly file: string | undefined;
    readonly content: string;
  }[];
}

/** Whether the subnet's own route table leads to an internet gateway. */
export const reachesInternet = (subnet: Subnet): boolean =>
  subnet.routes.some(
    ({ destination, target }) => destination.text === "0.0.0.0/0" && target.kind === "internet",
  );
