import { DataAwsSubnet } from "@cdktf/provider-aws/lib/data-aws-subnet/index.js";
import { EbsVolume } from "@cdktf/provider-aws/lib/ebs-volume/index.js";
import { VolumeAttachment } from "@cdktf/provider-aws/lib/volume-attachment/index.js";
import { Construct } from "constructs";
import type { NodePlacement } from "./tunnel-network.ts";

export interface CellIdentityProps {
  readonly network: Pick<NodePlacement, "publicSubnetId" | "publicSubnetZone">;
  /**
   * A KMS key of your own for the volume.
   * @default the account's own key for EBS
   */
  readonly kmsKeyArn?: string;
}

/**
 * The keys and the store of a node, on a small encrypted volume of their own: a replaced instance is still the same node to
 * everybody else. A new machine key would mean a new address, a "-2" name and broken choices of exit node.
 */
export class CellIdentity extends Construct {
  readonly volumeId: string;

  constructor(scope: Construct, id: string, props: CellIdentityProps) {
    super(scope, id);
    const { publicSubnetId, publicSubnetZone } = props.network;
    // Not the instance's zone: the volume must not depend on what is replaced.
    const availabilityZone =
      publicSubnetZone ?? new DataAwsSubnet(this, "Subnet", { id: publicSubnetId }).availabilityZone;
    const volume = new EbsVolume(this, "Volume", {
      availabilityZone,
      size: 1,
      type: "gp3",
      encrypted: true,
      ...(props.kmsKeyArn === undefined ? {} : { kmsKeyId: props.kmsKeyArn }),
      tags: { Name: this.node.path },
    });
    this.volumeId = volume.id;
  }

  /** Attaches it to a single instance. The one before is stopped first, so that two never write to it. */
  attach(instanceId: string): void {
    new VolumeAttachment(this, "Attachment", {
      deviceName: "/dev/sdf",
      instanceId,
      volumeId: this.volumeId,
      stopInstanceBeforeDetaching: true,
    });
  }
}
