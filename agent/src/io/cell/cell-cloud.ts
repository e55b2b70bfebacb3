/** What the node of a self-healing cell asks EC2 and Auto Scaling. The clients are loaded when they are first asked. */
import type { Part, Refusal, Whereabouts } from "../../core/cell/takeover.ts";
import type * as AutoScaling from "../apart/auto-scaling.ts";
import { prepareSdk } from "../aws-client.ts";
import { clientConfig, faultOf, loadEc2 } from "../aws/clients.ts";
import type { Cell } from "./cell-file.ts";

/** Index 1: the ingress beside the instance's own interface. */
const DEVICE_INDEX = 1;
/** Nitro shows it under the volume's id, whatever it is called here. */
const DEVICE_NAME = "/dev/sdf";

export interface CellCloudOptions {
  readonly cell: Cell;
  readonly instanceId: string;
  readonly region: string;
}

export class CellCloud {
  readonly #options: CellCloudOptions;
  #attachmentId: string | undefined;

  constructor(options: CellCloudOptions) {
    this.#options = options;
  }

  async findInterface(): Promise<Whereabouts> {
    const { ec2, client } = await this.#ec2();
    const ids = [this.#options.cell.ingressInterfaceId ?? ""];
    const found = await client.send(new ec2.DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: ids }));
    const { Attachment: attachment } = found.NetworkInterfaces?.[0] ?? {};
    this.#attachmentId = attachment?.AttachmentId;
    if (attachment === undefined || attachment.Status === "detached") return "free";
    if (attachment.Status === "detaching") return "leaving";
    if (attachment.InstanceId !== this.#options.instanceId) return "elsewhere";
    return attachment.Status === "attaching" ? "coming" : "here";
  }

  async attach(part: Part): Promise<void> {
    const { ec2, client } = await this.#ec2();
    const { cell, instanceId: InstanceId } = this.#options;
    if (part === "interface") {
      const what = { NetworkInterfaceId: cell.ingressInterfaceId, InstanceId, DeviceIndex: DEVICE_INDEX };
      await client.send(new ec2.AttachNetworkInterfaceCommand(what));
    } else {
      const what = { VolumeId: cell.identityVolumeId, InstanceId, Device: DEVICE_NAME };
      await client.send(new ec2.AttachVolumeCommand(what));
    }
  }

  /** The interface as it was found last; the volume from whoever has it, or with `own` from this instance only. */
  async detach(part: Part, force: boolean, own = false): Promise<void> {
    const { ec2, client } = await this.#ec2();
    const forced = force ? { Force: true } : {};
    if (part === "volume") {
      await client.send(
        new ec2.DetachVolumeCommand({
          VolumeId: this.#options.cell.identityVolumeId,
          ...(own ? { InstanceId: this.#options.instanceId } : {}),
          ...forced,
        }),
      );
    } else if (this.#attachmentId !== undefined) {
      await client.send(
        new ec2.DetachNetworkInterfaceCommand({ AttachmentId: this.#attachmentId, ...forced }),
      );
    }
  }

  async heartbeat(hook: "launchHook" | "terminateHook"): Promise<void> {
    const { scaling, client } = await this.#scaling();
    await client.send(new scaling.RecordLifecycleActionHeartbeatCommand(this.#action(hook)));
  }

  async complete(hook: "launchHook" | "terminateHook", result: "CONTINUE" | "ABANDON"): Promise<void> {
    const { scaling, client } = await this.#scaling();
    const action = { ...this.#action(hook), LifecycleActionResult: result };
    await client.send(new scaling.CompleteLifecycleActionCommand(action));
  }

  /** How many instances the group wants; 0 where it is being deleted. */
  async desiredCapacity(): Promise<number> {
    const { scaling, client } = await this.#scaling();
    const names = [this.#options.cell.autoScalingGroup];
    const answer = await client.send(
      new scaling.DescribeAutoScalingGroupsCommand({ AutoScalingGroupNames: names }),
    );
    return answer.AutoScalingGroups?.[0]?.DesiredCapacity ?? 0;
  }

  #action(hook: "launchHook" | "terminateHook") {
    const { cell, instanceId: InstanceId } = this.#options;
    return { AutoScalingGroupName: cell.autoScalingGroup, LifecycleHookName: cell[hook], InstanceId };
  }

  async #ec2() {
    const ec2 = await loadEc2();
    return { ec2, client: new ec2.EC2Client(clientConfig({ region: this.#options.region })) };
  }

  async #scaling() {
    const scaling = await loadAutoScaling();
    return { scaling, client: new scaling.AutoScalingClient(clientConfig({ region: this.#options.region })) };
  }
}

async function loadAutoScaling(): Promise<typeof AutoScaling> {
  prepareSdk();
  return await import("../apart/auto-scaling.ts");
}

/** https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html */
const IN_USE = new Set(["VolumeInUse", "InvalidNetworkInterface.InUse", "InvalidParameterCombination"]);
const GONE = new Set(["InvalidAttachmentID.NotFound", "InvalidAttachment.NotFound", "IncorrectState"]);
const UNKNOWN = new Set(["InvalidVolume.NotFound", "InvalidNetworkInterfaceID.NotFound"]);

export function refusalOf(error: unknown): Refusal {
  const name = error instanceof Error ? error.name : "";
  if (IN_USE.has(name)) return "in-use";
  if (GONE.has(name)) return "gone";
  if (UNKNOWN.has(name)) return "unknown";
  // What a role may do can be known everywhere only seconds after it was made, as can an instance's tags.
  return faultOf(error) === "refused" ? "unknown" : "later";
}
