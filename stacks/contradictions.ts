/** What is wrong with a configuration only together: fields that are right by themselves. */
import { architectureOf, SMALLEST_INSTANCE } from "../constructs/machine-image.ts";
import { STUN_PORT } from "../constructs/tunnel-firewall.ts";
import type { StackConfig } from "./config.ts";

/** Of what fields it is, whether it is so, and the line that begins with the field to change. */
type Rule = readonly [of: readonly (keyof StackConfig)[], broken: boolean, line: string];

const LAST_REGION_ID = 65535;
const LONGEST_REGION_CODE = 32;

/** @param wrong fields that are wrong by themselves, whose values are not known then */
export function contradictions(config: StackConfig, wrong: ReadonlySet<string>): readonly string[] {
  const has = (stack: StackConfig["stacks"][number]) => !wrong.has("stacks") && config.stacks.includes(stack);
  return [
    ...ofAll(config),
    ...ofMachines(config),
    ...(has("exit-node-stack") ? [...ofExitNodes(config), ...ofEgress(config)] : []),
    ...(has("coordination-stack") ? ofCoordination(config) : []),
  ]
    .filter(([of, broken]) => broken && !of.some((field) => wrong.has(field)))
    .map(([, , line]) => line);
}

function ofAll({
  acme,
  loginServer,
  stacks,
  network,
  cidrBlock,
  regions,
  relay,
  ...config
}: StackConfig): Rule[] {
  const { availabilityZone } = config;
  const lastRegionId = (relay?.regionId ?? 0) + regions.length - 1;
  const suffix = regions.length === 1 ? "" : `-${regions.length}`;
  return [
    [
      ["acme", "loginServer", "stacks"],
      acme !== undefined && loginServer !== undefined && stacks.every((stack) => stack === "exit-node-stack"),
      "acme: no server is made here that could use it: leave it or loginServer out",
    ],
    [
      ["network", "cidrBlock"],
      network !== undefined && cidrBlock !== undefined,
      "cidrBlock: it is for a network that is made: leave out network, or this",
    ],
    [
      ["network", "availabilityZone"],
      network !== undefined && availabilityZone !== undefined,
      "availabilityZone: the subnets of network are where they are: leave out network, or this",
    ],
    [
      ["availabilityZone", "regions"],
      availabilityZone !== undefined && regions.some((region) => region !== availabilityZone.slice(0, -1)),
      `availabilityZone: ${availabilityZone} is not in ${regions.join(", ")}: give a zone of the one region, or leave it out`,
    ],
    [
      ["network", "regions"],
      network !== undefined && regions.length > 1,
      "network: it lies in one region: name one in regions",
    ],
    [
      ["relay", "regions"],
      lastRegionId > LAST_REGION_ID,
      `relay.regionId: further regions count on from it, to ${lastRegionId}: give one that leaves room up to ${LAST_REGION_ID}`,
    ],
    [
      ["relay", "regions"],
      (relay?.regionCode ?? "").length + suffix.length > LONGEST_REGION_CODE,
      `relay.regionCode: further regions add "${suffix}" to it: give at most ${LONGEST_REGION_CODE - suffix.length} characters`,
    ],
  ];
}

function ofMachines(config: StackConfig): Rule[] {
  const { agent, machineImageId, instanceType, architecture } = config;
  const built = instanceType === undefined ? architecture : architectureOf(instanceType);
  return [
    [
      ["instanceType", "architecture"],
      built !== undefined && built !== architecture,
      `instanceType: ${instanceType} is ${built} and architecture is ${architecture}: set architecture to "${built}", or choose a type such as ${SMALLEST_INSTANCE[architecture]}`,
    ],
    [
      ["agent", "machineImageId"],
      agent === "image" && machineImageId === undefined,
      'machineImageId: agent is "image": name the image that has it',
    ],
    [
      ["agent", "keepIdentity"],
      agent === "image" && config.keepIdentity === true,
      "keepIdentity: an agent on the image keeps its keys where that puts them: leave it out, or agent, so that the stack brings it",
    ],
  ];
}

function ofExitNodes(config: StackConfig): Rule[] {
  const { loginServer, authKeyParameter, authKeySecretArn } = config;
  const hasKey = authKeyParameter !== undefined || authKeySecretArn !== undefined;
  return [
    [
      ["authKeyParameter", "authKeySecretArn", "loginServer"],
      hasKey && loginServer === undefined,
      `${authKeyParameter === undefined ? "authKeySecretArn" : "authKeyParameter"}: it is for a loginServer: name that too`,
    ],
    [
      ["authKeyParameter", "authKeySecretArn"],
      authKeyParameter !== undefined && authKeySecretArn !== undefined,
      "authKeySecretArn: there is authKeyParameter already: give one",
    ],
    [
      ["authKeyRegion", "authKeyParameter"],
      config.authKeyRegion !== undefined && authKeyParameter === undefined,
      "authKeyRegion: it is for an authKeyParameter: name that too",
    ],
    [
      ["agent", "loginServer"],
      config.agent === "image" && loginServer === undefined,
      'loginServer: agent is "image": name the server to join',
    ],
    [
      ["agent", "selfHealing"],
      config.agent === "image" && config.selfHealing,
      "selfHealing: an agent on the image takes over nothing: leave it out, or agent, so that the stack brings it",
    ],
    [
      ["keepIdentity", "loginServer"],
      config.keepIdentity === false && loginServer === undefined,
      "keepIdentity: the node is its network's server, and all devices would have to join again: leave it out, or name a loginServer",
    ],
    [
      ["port", "loginServer"],
      config.port === STUN_PORT && loginServer === undefined,
      `port: ${STUN_PORT} is where the node's own relay answers STUN: give another port`,
    ],
  ];
}

function ofEgress({ egress, network, natGatewayId, address, selfHealing }: StackConfig): Rule[] {
  return [
    [
      ["egress", "network"],
      egress === "nat-gateway" && network !== undefined && network.privateRouteTableId === undefined,
      "network.privateRouteTableId: egress nat-gateway adds a route to it: give it, or set egress to direct or existing-nat",
    ],
    [
      ["egress", "network"],
      egress !== "direct" && network !== undefined && network.privateSubnetId === undefined,
      `network.privateSubnetId: egress ${egress} needs a private subnet: give it, or set egress to direct`,
    ],
    [
      ["egress", "network"],
      egress === "existing-nat" && network === undefined,
      "egress: existing-nat is for a network that exists: give network, or set nat-gateway",
    ],
    [
      ["egress", "natGatewayId"],
      natGatewayId !== undefined && egress !== "existing-nat",
      "natGatewayId: it is for egress existing-nat: set that, or leave natGatewayId out",
    ],
    [
      ["egress", "address"],
      address === "dynamic" && egress !== "direct",
      "address: EC2 gives dynamic ones only to instances with one interface: set egress to direct, or address to elastic",
    ],
    [
      ["egress", "selfHealing"],
      selfHealing && egress === "direct",
      "selfHealing: a replaced instance would have another address, which no output tells; one that stays is on an interface of its own: set egress to nat-gateway or existing-nat",
    ],
  ];
}

function ofCoordination({ agent }: StackConfig): Rule[] {
  return [
    [
      ["agent"],
      agent === "image",
      "agent: coordination-stack brings the agent itself: leave agent out, or give it a file or url",
    ],
  ];
}
