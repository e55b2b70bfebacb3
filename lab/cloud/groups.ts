/**
 * Autoscaling groups: as many instances as wanted, each through the hooks of its group, replaced when one ends or is ill.
 * https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks.html
 */
import type * as model from "../model/model.ts";
import { dynamicAddress } from "../model/read-machines.ts";
import { madeUpId } from "../terraform-fixture.ts";
import { CloudError, type LabHook, type LifecycleAction, type LifecycleState } from "./cloud.ts";
import type { Hands, Surroundings } from "./hands.ts";
import { type GroupState, type InstanceState, instanceState, interfaceState } from "./state.ts";

/** What the groups of a region need of it. */
export interface ScalingHost {
  readonly cloud: Surroundings;
  readonly hands: Hands | undefined;
  readonly now: () => number;
  readonly groups: ReadonlyMap<string, GroupState>;
  readonly instances: ReadonlyMap<string, InstanceState>;
  /** @throws CloudError */
  instance(id: string): InstanceState;
  /** Puts an instance among the others; it isn't wired and doesn't run yet. */
  add(instance: InstanceState): void;
  /** Wires it and lets it boot. */
  bring(instance: InstanceState): Promise<void>;
  terminateInstance(id: string): Promise<void>;
}

/** How long EC2 takes to tell a group that an instance is gone; a minute and more in AWS. */
const NOTICE_MS = 500;

export class Groups {
  readonly #region: ScalingHost;
  /** The time limit of an instance's hook, by the instance's id. */
  readonly #limits = new Map<string, NodeJS.Timeout>();
  #stopped = false;

  constructor(region: ScalingHost) {
    this.#region = region;
  }

  /** The first instances, which are there when the lab starts. */
  fill(): void {
    for (const group of this.#region.groups.values()) {
      while (group.instanceIds.length < group.desiredCapacity) this.#make(group);
    }
  }

  async complete(action: LifecycleAction, result: "CONTINUE" | "ABANDON"): Promise<void> {
    const { instance, hook } = this.#waiting(action);
    this.#unlimit(instance);
    await this.#proceed(instance, hook, result);
  }

  heartbeat(action: LifecycleAction): void {
    const { instance, hook } = this.#waiting(action);
    this.#limit(instance, hook);
  }

  async setHealth(instanceId: string, health: "Healthy" | "Unhealthy"): Promise<void> {
    const instance = this.#region.instance(instanceId);
    if (instance.lifecycle === undefined) {
      throw new CloudError(
        "ValidationError",
        `Instance Id not found - No managed instance found for instance ID: ${instanceId}`,
      );
    }
    instance.lifecycle = { ...instance.lifecycle, health };
    if (health === "Healthy" || instance.lifecycle.target === "Terminated") return;
    const group = this.#groupOf(instance);
    this.#later(() => this.#terminate(instance));
    if (group !== undefined) this.#later(() => this.#launch(group));
    await Promise.resolve();
  }

  /** One new instance beside each old one, which ends when the new one is in service (minimum 100 %, maximum 200 %). */
  async refresh(groupName: string): Promise<string> {
    const group = this.#region.groups.get(groupName);
    if (group === undefined) {
      throw new CloudError("ValidationError", `AutoScalingGroup name not found - ${groupName}`);
    }
    const old = [...group.instanceIds];
    await Promise.all(old.map(() => this.#launch(group)));
    const timer = setInterval(() => {
      const fresh = group.instanceIds.filter((id) => !old.includes(id));
      const inService = fresh.filter(
        (id) => this.#region.instances.get(id)?.lifecycle?.state === "InService",
      );
      if (!this.#stopped && inService.length < old.length) return;
      clearInterval(timer);
      for (const id of this.#stopped ? [] : old) {
        const instance = this.#region.instances.get(id);
        if (instance !== undefined && instance.state !== "terminated")
          this.#later(() => this.#terminate(instance));
      }
    }, REFRESH_POLL_MS);
    timer.unref();
    return madeUpId("refresh", `${groupName}/${group.launched}`);
  }

  /** An instance is gone, for whatever reason: the group launches another. */
  async ended(instance: InstanceState): Promise<void> {
    this.#unlimit(instance);
    const group = this.#groupOf(instance);
    if (instance.lifecycle === undefined || group === undefined) return;
    this.#setState(instance, "Terminated");
    group.instanceIds = group.instanceIds.filter((id) => id !== instance.id);
    if (group.instanceIds.length >= group.desiredCapacity) return;
    const timer = setTimeout(() => this.#later(() => this.#launch(group)), NOTICE_MS);
    timer.unref();
    await Promise.resolve();
  }

  stop(): void {
    this.#stopped = true;
    for (const timer of this.#limits.values()) clearTimeout(timer);
    this.#limits.clear();
  }

  #make(group: GroupState): InstanceState {
    const { networks } = this.#region.cloud.read;
    const { template } = group.model;
    const n = group.launched++;
    const id = groupInstanceId(group.name, n);
    const privateIp = networks.addresses.privateIp(template.subnet);
    const primary: model.Interface = {
      id: madeUpId("eni", `${id}/0`),
      address: group.model.address,
      subnet: template.subnet,
      privateIp,
      ipv6: template.subnet.ipv6AtLaunch ? networks.addresses.ipv6(template.subnet, privateIp) : undefined,
      groups: template.groups,
      sourceDestCheck: template.sourceDestCheck,
      description: "",
      tags: {},
      publicAddress: template.publicAddress
        ? dynamicAddress(networks, template.subnet.vpc.stackIndex)
        : undefined,
    };
    const launching = hookOf(group, "autoscaling:EC2_INSTANCE_LAUNCHING");
    const base = this.#region.cloud.names.get(group.model.id) ?? group.name;
    const instance = instanceState({
      id,
      namespace: n === 0 ? base : `${base}-${n + 1}`,
      template: {
        ...template,
        tags: { ...template.tags, "aws:autoscaling:groupName": group.name },
      },
      primary: interfaceState(primary),
      lifecycle: {
        groupName: group.name,
        state: launching === undefined ? "InService" : "Pending:Wait",
        target: "InService",
        health: "Healthy",
      },
      launchTime: this.#region.now(),
    });
    group.instanceIds.push(id);
    this.#region.add(instance);
    if (launching !== undefined) this.#limit(instance, launching);
    return instance;
  }

  async #launch(group: GroupState): Promise<void> {
    if (this.#stopped) return;
    const instance = this.#make(group);
    this.#region.hands?.say(`${group.name} launches ${instance.namespace} (${instance.id})`);
    await this.#region.bring(instance);
  }

  async #terminate(instance: InstanceState): Promise<void> {
    if (instance.lifecycle === undefined) return;
    instance.lifecycle = { ...instance.lifecycle, target: "Terminated" };
    const group = this.#groupOf(instance);
    const hook = group === undefined ? undefined : hookOf(group, "autoscaling:EC2_INSTANCE_TERMINATING");
    if (hook === undefined) {
      await this.#region.terminateInstance(instance.id);
      return;
    }
    this.#setState(instance, "Terminating:Wait");
    this.#limit(instance, hook);
  }

  async #proceed(instance: InstanceState, hook: LabHook, result: "CONTINUE" | "ABANDON"): Promise<void> {
    if (hook.transition === "autoscaling:EC2_INSTANCE_TERMINATING") {
      this.#setState(instance, "Terminating:Proceed");
      await this.#region.terminateInstance(instance.id);
    } else if (result === "CONTINUE") {
      this.#setState(instance, "InService");
    } else {
      this.#region.hands?.say(`${instance.namespace} (${instance.id}) abandoned its launch`);
      await this.#region.terminateInstance(instance.id);
    }
  }

  #waiting(action: LifecycleAction): { readonly instance: InstanceState; readonly hook: LabHook } {
    const group = this.#region.groups.get(action.groupName);
    const hook = group?.hooks.find(({ name }) => name === action.hookName);
    const instance = this.#region.instances.get(action.instanceId);
    const state: LifecycleState =
      hook?.transition === "autoscaling:EC2_INSTANCE_TERMINATING" ? "Terminating:Wait" : "Pending:Wait";
    if (hook === undefined || instance?.lifecycle?.state !== state) {
      throw new CloudError(
        "ValidationError",
        `No active Lifecycle Action found with instance ID ${action.instanceId}`,
      );
    }
    return { instance, hook };
  }

  #limit(instance: InstanceState, hook: LabHook): void {
    this.#unlimit(instance);
    const timer = setTimeout(
      () => this.#later(() => this.#proceed(instance, hook, hook.defaultResult)),
      hook.heartbeatTimeoutSeconds * 1000,
    );
    timer.unref();
    this.#limits.set(instance.id, timer);
  }

  #unlimit(instance: InstanceState): void {
    clearTimeout(this.#limits.get(instance.id));
    this.#limits.delete(instance.id);
  }

  #setState(instance: InstanceState, state: LifecycleState): void {
    if (instance.lifecycle !== undefined) instance.lifecycle = { ...instance.lifecycle, state };
  }

  #groupOf(instance: InstanceState): GroupState | undefined {
    return this.#region.groups.get(instance.lifecycle?.groupName ?? "");
  }

  /** Beside the caller's own work, as AWS does it; what goes wrong is said, not thrown at nobody. */
  #later(work: () => Promise<void>): void {
    work().catch((error: unknown) => {
      this.#region.hands?.say(
        `the group could not: ${error instanceof Error ? error.message : String(error)}`,
      );
    });
  }
}

const REFRESH_POLL_MS = 100;

function hookOf(group: GroupState, transition: LabHook["transition"]): LabHook | undefined {
  return group.hooks.find((hook) => hook.transition === transition);
}

/** The id of the `n`-th instance that a group launches. */
const groupInstanceId = (group: string, n: number): string => madeUpId("i", `${group}/${n}`);
