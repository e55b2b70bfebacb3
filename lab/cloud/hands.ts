/** What the parts of a running cloud need of what is around them. */
import type { ReadCloud } from "../model/read.ts";
import type { NamespaceChange, VpcPlan, Wiring } from "../vpc-plan.ts";
import type { LabInstance } from "./cloud.ts";

/** What the running cloud makes happen in the lab. */
export interface Hands {
  addNamespace(name: string): Promise<void>;
  /** With everything that runs in it. */
  removeNamespace(name: string): Promise<void>;
  wire(wiring: Wiring): Promise<void>;
  unwire(change: NamespaceChange): Promise<void>;
  attachVolume(volumeId: string, instance: LabInstance): Promise<void>;
  detachVolume(volumeId: string, instance: LabInstance): Promise<void>;
  /** Runs its first boot. */
  boot(instance: LabInstance): Promise<void>;
  /** Whether a TCP port answers to an address of a namespace's own. */
  answers(
    namespace: string,
    from: string,
    to: { readonly ip: string; readonly port: number },
  ): Promise<boolean>;
  /** For people. */
  say(line: string): void;
}

/** The whole cloud, as one region sees it. */
export interface Surroundings {
  readonly accountId: string;
  readonly partition: string;
  readonly read: ReadCloud;
  readonly plans: readonly VpcPlan[];
  /** Ids of instances and groups → names. */
  readonly names: ReadonlyMap<string, string>;
  planOf(vpcId: string): VpcPlan;
}
