/** One instance without a tunnel, at an address that stays: what a relay and a coordination server are made on. */
import { Construct } from "constructs";
import type { AgentBundle } from "./agent-bundle.ts";
import { AgentInstance, type MachineProps } from "./agent-instance.ts";
import { AgentRole } from "./agent-role.ts";
import { type AgentUserDataProps, renderAgentUserData } from "./agent-user-data.ts";
import type { CellIdentity } from "./cell-identity.ts";
import { DirectIngress, type IngressAddress } from "./direct-ingress.ts";
import { given } from "./given.ts";
import { checkBundle } from "./relay-region.ts";
import type { NodePlacement } from "./tunnel-network.ts";

export interface ServerMachineProps extends MachineProps {
  readonly owner: string;
  readonly network: NodePlacement;
  readonly bundle?: AgentBundle;
  readonly address?: Exclude<IngressAddress, "dynamic">;
  readonly joinParameterName?: string;
  readonly sessionManager?: boolean;
  readonly identity: CellIdentity | undefined;
  readonly rules: { readonly relay?: boolean; readonly coordination?: boolean; readonly acme: boolean };
  /** What the instance is told, once its address is known. */
  readonly told: (address: string) => AgentUserDataProps;
}

export class ServerMachine extends Construct {
  readonly instanceId: string;
  readonly publicIp: string;

  constructor(scope: Construct, id: string, props: ServerMachineProps) {
    super(scope, id);
    const { owner, bundle, identity, network } = props;
    checkBundle(props, owner);
    if (identity !== undefined && bundle === undefined) {
      throw new Error(`${owner} keepIdentity needs bundle: only its start-up mounts the volume.`);
    }
    const ingress = new DirectIngress(this, "Ingress", {
      network,
      address: props.address ?? "elastic",
      port: false,
      exitTraffic: "none",
      ...props.rules,
    });
    if (ingress.publicIp === undefined) {
      throw new Error(`${owner} address is "dynamic" and others keep it in their maps: set it to "elastic".`);
    }
    const role =
      bundle === undefined && props.sessionManager !== true
        ? undefined
        : new AgentRole(this, "Role", {
            bundle,
            joinParameterName: props.joinParameterName,
            sessionManager: props.sessionManager,
          });
    const { instance } = new AgentInstance(this, "Instance", {
      ...given({
        architecture: props.architecture,
        instanceType: props.instanceType,
        machineImageId: props.machineImageId,
        tags: props.tags,
      }),
      owner,
      subnetId: network.publicSubnetId,
      securityGroupId: ingress.firewall.securityGroupId,
      publicAddress: true,
      userData: renderAgentUserData({
        ...props.told(ingress.publicIp),
        tunnel: false,
        ...given({ bundle: bundle?.location, identityVolumeId: identity?.volumeId }),
      }),
      instanceProfileName: role?.instanceProfileName,
      ingressInterfaceId: undefined,
      group: undefined,
      dependsOn: [...(network.internetAccess ?? []), ...ingress.waysOut, ...(role?.rights ?? [])],
    });
    if (instance === undefined) throw new Error(`${owner} is one instance.`);
    ingress.associate(instance.id);
    identity?.attach(instance.id);
    this.instanceId = instance.id;
    this.publicIp = ingress.publicIp;
  }
}
