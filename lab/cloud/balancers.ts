/**
 * Network load balancers: each port leads to the first of its targets that answers the health check, and to the first of all
 * where none does, as AWS does then:
 * https://docs.aws.amazon.com/elasticloadbalancing/latest/network/target-group-health-checks.html
 */
import type { Balancer, Listener } from "../model/model.ts";
import type { Forwarding } from "../vpc-rules.ts";
import type { Hands, Surroundings } from "./hands.ts";
import type { InstanceState } from "./state.ts";

/** Of AWS's own, 30 s, nothing is learned by waiting. */
const CHECK_EVERY_MS = 1_000;

export interface Balanced {
  readonly cloud: Surroundings;
  readonly instances: () => readonly InstanceState[];
  readonly hands: Hands;
}

export class Balancers {
  readonly #of: Balanced;
  /** What each VPC's router was told last. */
  readonly #told = new Map<string, string>();
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(of: Balanced) {
    this.#of = of;
  }

  async start(): Promise<void> {
    if (this.#of.cloud.read.model.balancers.length > 0) await this.#look();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  async #look(): Promise<void> {
    const { cloud, hands } = this.#of;
    for (const plan of cloud.plans) {
      const here = cloud.read.model.balancers.filter(({ subnet }) => subnet.vpc === plan.vpc);
      const forwardings = (await Promise.all(here.map((one) => this.#forwardings(one)))).flat();
      const change = plan.balance(forwardings);
      if (this.#stopped || (this.#told.get(plan.namespace) ?? "") === change.rules || here.length === 0)
        continue;
      this.#told.set(plan.namespace, change.rules);
      await hands.wire({ link: undefined, changes: [change] });
    }
    if (this.#stopped) return;
    this.#timer = setTimeout(() => {
      this.#look().catch((error: unknown) => {
        if (!this.#stopped) hands.say(error instanceof Error ? error.message : String(error));
      });
    }, CHECK_EVERY_MS);
    this.#timer.unref();
  }

  async #forwardings(balancer: Balancer): Promise<readonly Forwarding[]> {
    const all = balancer.listeners.map(async (listener): Promise<Forwarding[]> => {
      const targets = targetsOf(listener, this.#of.instances());
      const well = await Promise.all(
        targets.map(({ privateIp }) => this.#isWell(balancer, listener, privateIp)),
      );
      const target = targets.find((_, i) => well[i] === true) ?? targets[0];
      if (target === undefined) return [];
      const { protocol, port } = listener;
      return [{ protocol, publicIp: balancer.publicIp.text, port, target }];
    });
    return (await Promise.all(all)).flat();
  }

  async #isWell(
    { subnet, privateIp }: Balancer,
    { healthCheckPort }: Listener,
    ip: string,
  ): Promise<boolean> {
    const { namespace } = this.#of.cloud.planOf(subnet.vpc.id);
    return this.#of.hands.answers(namespace, privateIp.text, { ip, port: healthCheckPort });
  }
}

/** Those that are registered: single instances while they run, a group's own while they are in service. */
function targetsOf(
  { targets, groups }: Pick<Listener, "targets" | "groups">,
  instances: readonly InstanceState[],
): readonly Forwarding["target"][] {
  return instances.flatMap(({ id, state, lifecycle, interfaces }) => {
    if (state !== "running") return [];
    const own = targets.find(({ instanceId }) => instanceId === id);
    const shared = groups.find(
      ({ name }) => name === lifecycle?.groupName && lifecycle.state === "InService",
    );
    const port = (own ?? shared)?.port;
    const privateIp = interfaces[0]?.privateIps[0];
    return port === undefined || privateIp === undefined ? [] : [{ privateIp, port }];
  });
}
