/**
 * The cloud while the lab runs: every VPC, interface, instance, volume and group of the model with its present state. What moves
 * a wire or a volume is asked of `Hands`, so that the rules of who may be attached where can be tested on plain data.
 */
import { ACCOUNT, PARTITION } from "../terraform-fixture.ts";
import type { ReadCloud } from "../model/read.ts";
import type { Wiring } from "../vpc-plan.ts";
import { VpcPlan } from "../vpc-plan.ts";
import { nodeNames } from "../node-names.ts";
import type { LabBucket, LabCloud, LabInstance, LabRole } from "./cloud.ts";
import { Balancers } from "./balancers.ts";
import { RunningRegion } from "./region.ts";
import type { Hands, Surroundings } from "./hands.ts";
import { type InstanceState, wired } from "./state.ts";

export interface RunningOptions {
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** The content of objects that stacks write themselves, and of the agent's archive. */
  readonly objectFile: (bucket: string, key: string, source: string | undefined, content: string) => string;
  readonly endpointHost: LabCloud["endpointHost"];
}

export class RunningCloud implements LabCloud, Surroundings {
  readonly accountId = ACCOUNT;
  readonly partition = PARTITION;
  readonly regions: ReadonlyMap<string, RunningRegion>;
  readonly roles: ReadonlyMap<string, LabRole>;
  readonly endpointHost: LabCloud["endpointHost"];
  readonly plans: readonly VpcPlan[];
  readonly read: ReadCloud;
  readonly names: ReadonlyMap<string, string>;
  #hands: Hands | undefined;
  #balancers: Balancers | undefined;

  constructor(read: ReadCloud, options: RunningOptions) {
    const { model } = read;
    this.read = read;
    this.endpointHost = options.endpointHost;
    this.names = nodeNames(model);
    this.plans = model.vpcs.map((vpc, i) => new VpcPlan(model, vpc, i === 0 ? "igw" : `igw-${i + 1}`));
    this.roles = new Map(model.roles.map((role) => [role.name, role]));
    const buckets = (region: string): ReadonlyMap<string, LabBucket> =>
      new Map(
        model.buckets
          .filter((one) => one.region === region)
          .map(({ name, objects }) => [
            name,
            {
              name,
              objects: new Map(
                objects.map(({ key, file, content }) => [
                  key,
                  { file: options.objectFile(name, key, file, content), etag: key },
                ]),
              ),
            },
          ]),
      );
    this.regions = new Map(
      model.regions.map((name) => [
        name,
        new RunningRegion(this, name, buckets(name), options.now, () => this.#hands),
      ]),
    );
  }

  get instances(): readonly InstanceState[] {
    return [...this.regions.values()].flatMap((region) => [...region.instances.values()]);
  }

  instanceAt(vpcId: string, privateIp: string): LabInstance | undefined {
    return this.instances.find((one) =>
      one.interfaces.some(
        (two) => two.vpcId === vpcId && (two.privateIps.includes(privateIp) || two.ipv6s.includes(privateIp)),
      ),
    );
  }

  /** The instance in a namespace. */
  instanceIn(namespace: string): InstanceState | undefined {
    return this.instances.find((one) => one.namespace === namespace && one.state !== "terminated");
  }

  /** The machine that people call `name` in a scenario: for a group the newest one that serves. */
  currentOf(name: string): InstanceState | undefined {
    const direct = this.instanceIn(name);
    const groupId = [...this.names].find(([, one]) => one === name)?.[0];
    const group = this.read.model.groups.find(({ id }) => id === groupId);
    if (group === undefined) return direct;
    const alive = this.instances.filter(
      ({ lifecycle, state }) => lifecycle?.groupName === group.name && state !== "terminated",
    );
    return alive.find(({ lifecycle }) => lifecycle?.state === "InService") ?? alive.at(-1) ?? direct;
  }

  planOf(vpcId: string): VpcPlan {
    const plan = this.plans.find(({ vpc }) => vpc.id === vpcId);
    if (plan === undefined) throw new Error(`no plan for ${vpcId}`);
    return plan;
  }

  /** The wires of the instances that are there from the start. */
  wirings(): readonly Wiring[] {
    return this.instances.flatMap((instance) =>
      instance.interfaces.map((one) =>
        this.planOf(one.vpcId).attach(wired(one), instance.namespace, one.attachment?.deviceIndex ?? 0),
      ),
    );
  }

  /** From now on changes happen in the lab, too, and instances run. */
  async start(hands: Hands): Promise<void> {
    this.#hands = hands;
    for (const region of this.regions.values()) await region.startAll();
    this.#balancers = new Balancers({ cloud: this, instances: () => this.instances, hands });
    await this.#balancers.start();
  }

  /** What is pending ends. */
  stop(): void {
    this.#hands = undefined;
    this.#balancers?.stop();
    for (const region of this.regions.values()) region.stop();
  }
}
