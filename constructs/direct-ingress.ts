import { DataAwsSubnet } from "@cdktf/provider-aws/lib/data-aws-subnet/index.js";
import { DataAwsEip } from "@cdktf/provider-aws/lib/data-aws-eip/index.js";
import { EipAssociation } from "@cdktf/provider-aws/lib/eip-association/index.js";
import { Eip } from "@cdktf/provider-aws/lib/eip/index.js";
import { NetworkInterface } from "@cdktf/provider-aws/lib/network-interface/index.js";
import type { ITerraformDependable } from "cdktf";
import { Construct } from "constructs";
import { TunnelFirewall, type TunnelFirewallProps } from "./tunnel-firewall.ts";
import type { NodePlacement } from "./tunnel-network.ts";

/**
 * - `dynamic`: whatever address EC2 gives at launch; a replaced instance has another.
 * - `elastic`: an Elastic IP that is made here and outlives the instance.
 * - `{ allocationId }`: an Elastic IP that exists.
 */
export type IngressAddress = "dynamic" | "elastic" | { readonly allocationId: string };

export interface DirectIngressProps extends Omit<TunnelFirewallProps, "vpcId"> {
  readonly network: NodePlacement;
  /**
   * @default "dynamic", or "elastic" with an interface of its own
   */
  readonly address?: IngressAddress;
  /**
   * Whether the tunnel comes in by an interface of its own, beside the instance's first one. EC2 gives no dynamic address
   * to instances with two.
   * @default false
   */
  readonly separateInterface?: boolean;
}

/** How a node is reached from outside: the rules, the address, and at wish an interface for them alone. */
export class DirectIngress extends Construct {
  readonly firewall: TunnelFirewall;
  /** Undefined where EC2 gives it at launch: then the instance knows it. */
  readonly publicIp: string | undefined;
  /** Undefined where it is the instance's first one. */
  readonly networkInterfaceId: string | undefined;
  /** What the node needs here until it is gone, beside what it refers to. */
  readonly waysOut: readonly ITerraformDependable[];
  readonly #allocationId: string | undefined;

  constructor(scope: Construct, id: string, props: DirectIngressProps) {
    super(scope, id);
    const { network, separateInterface = false, ...rules } = props;
    const address = props.address ?? (separateInterface ? "elastic" : "dynamic");
    if (separateInterface && address === "dynamic") {
      throw new Error(
        'DirectIngress address is "dynamic", which EC2 gives to instances with one interface only: set it to "elastic".',
      );
    }
    this.firewall = new TunnelFirewall(this, "Firewall", { vpcId: network.vpcId, ...rules });
    const allocated = this.#allocate(address);
    this.publicIp = allocated?.publicIp;
    this.#allocationId = allocated?.id;
    const made = separateInterface ? this.#interface(network) : undefined;
    this.networkInterfaceId = made?.id;
    this.waysOut = [...this.firewall.waysOut, ...(made?.waysOut ?? [])];
  }

  /** For the node that is made after: its address must not depend on it. */
  associate(instanceId: string): void {
    if (this.#allocationId === undefined || this.networkInterfaceId !== undefined) return;
    new EipAssociation(this, "Association", { allocationId: this.#allocationId, instanceId });
  }

  #allocate(address: IngressAddress): { readonly id: string; readonly publicIp: string } | undefined {
    if (address === "dynamic") return undefined;
    if (address !== "elastic") {
      const { publicIp } = new DataAwsEip(this, "Address", { id: address.allocationId });
      return { id: address.allocationId, publicIp };
    }
    const { id, publicIp } = new Eip(this, "Address", { domain: "vpc", tags: { Name: this.node.path } });
    return { id, publicIp };
  }

  #interface(network: NodePlacement) {
    const zones = this.#lookedUpZones(network);
    const made = new NetworkInterface(this, "Interface", {
      subnetId: network.publicSubnetId,
      securityGroups: [this.firewall.securityGroupId],
      // Exit traffic never bears other addresses than the node's own: it is masqueraded.
      sourceDestCheck: true,
      description: "Sallyport: the tunnel comes in here",
      tags: { Name: this.node.path },
      ...(zones === undefined
        ? {}
        : {
            lifecycle: {
              precondition: [
                {
                  condition: `\${${zones[0].fqn}.availability_zone == ${zones[1].fqn}.availability_zone}`,
                  errorMessage:
                    "network.publicSubnetId and network.privateSubnetId are in different zones: an instance has all its interfaces in one.",
                },
              ],
            },
          }),
    });
    if (this.#allocationId === undefined) return { id: made.id, waysOut: [] };
    const address = new EipAssociation(this, "Association", {
      allocationId: this.#allocationId,
      networkInterfaceId: made.id,
    });
    return { id: made.id, waysOut: [address] };
  }

  /** Subnets that exist already say their zone only when it is deployed. */
  #lookedUpZones(network: NodePlacement): readonly [DataAwsSubnet, DataAwsSubnet] | undefined {
    const { publicSubnetId, privateSubnetId, publicSubnetZone, privateSubnetZone } = network;
    if (privateSubnetId === undefined) return undefined;
    if (publicSubnetZone !== undefined && privateSubnetZone !== undefined) return undefined;
    return [
      new DataAwsSubnet(this, "PublicSubnet", { id: publicSubnetId }),
      new DataAwsSubnet(this, "PrivateSubnet", { id: privateSubnetId }),
    ];
  }
}
