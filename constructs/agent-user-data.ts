/**
 * What an instance is told at its first boot, as a cloud-init shell script.
 *
 * Pure: the same props give the same text. It carries no secret, since anyone who may describe the instance reads it.
 * It writes the agent's configuration, fetches the agent (agent-delivery.ts) and starts it (agent-units.ts) with what Amazon
 * Linux 2023 and Debian ship: bash, curl, tar, sha256sum, systemd. Terraform would take a dollar sign before a brace for an
 * expression of its own, so the script has none.
 */
import { type Acme, acmeConfig } from "./acme.ts";
import type { BundleLocation } from "./agent-bundle.ts";
import { deliveryScript } from "./agent-delivery.ts";
import { agentUnits, type Unit } from "./agent-units.ts";
import { FORWARDING_TOOLS } from "./forwarding-tools.ts";
import { checkedHostname, checkedLoginServer, isKnown } from "./checked.ts";
import { tunnelPort } from "./tunnel-port.ts";

export interface AgentUserDataProps {
  /**
   * The UDP port of the tunnel, from 1 to 65535.
   * @default 41641
   */
  readonly port?: number;
  /**
   * ADDRESS:PORT, by which peers reach it beside what it finds itself.
   * @default none
   */
  readonly endpoint?: string;
  /**
   * The TCP port of a load balancer's health check.
   * @default none
   */
  readonly healthCheckPort?: number;
  /**
   * The coordination server, as https://ADDRESS.
   * @default whatever the agent on the image is set up for; with `coordination` the node's own
   */
  readonly loginServer?: string;
  /**
   * The node's name in the network: letters, digits and hyphens.
   * @default the instance's host name
   */
  readonly hostname?: string;
  /**
   * Whether the node offers itself as exit node.
   * @default false
   */
  readonly advertiseExitNode?: boolean;
  /**
   * Whether exit traffic leaves by another interface than the tunnel comes in by.
   * @default it does where the instance has two
   */
  readonly egressMode?: "direct" | "split";
  /**
   * The addresses that exit traffic may be seen from. With any other none is carried.
   * @default those of its interface
   */
  readonly egressAddresses?: readonly string[];
  /**
   * Whether the agent tells its health in the tags of its instance, as its role lets it.
   * @default it does where it finds that the instance is one of EC2
   */
  readonly healthTags?: boolean;
  /**
   * Whether the instance has a tunnel at all, or only the servers below.
   * @default true
   */
  readonly tunnel?: boolean;
  /**
   * Where the key to join with is read: "ssm:NAME" or "secretsmanager:ARN".
   * @default none; with `coordination` the node's own
   */
  readonly authKeySource?: string;
  /**
   * Where the agent is fetched.
   * @default it is on the image, with its systemd units
   */
  readonly bundle?: BundleLocation;
  /**
   * The instance is a relay, too.
   * @default it is none
   */
  readonly relay?: RelaySettings;
  /**
   * The instance is the coordination server, too.
   * @default it is not
   */
  readonly coordination?: CoordinationSettings;
  /**
   * The EBS volume that holds the node's keys, by its id: its file system is made at its first use.
   * @default the keys lie on the instance's own disk, and end with it
   */
  readonly identityVolumeId?: string;
  /**
   * What the node of a self-healing cell takes over, for /etc/sallyport/cell.json.
   * @default it takes over nothing
   */
  readonly cell?: CellSettings;
}

export interface RelaySettings {
  /** The IP address by which clients reach it. */
  readonly address: string;
  /** Its DNS name. @default its address, with a certificate that its map entry pins */
  readonly hostname?: string;
  /** @default a certificate of its own */
  readonly acme?: Acme;
  /** 900 to 999 are for own relays. */
  readonly regionId: number;
  readonly regionCode: string;
  /** @default the code */
  readonly regionName?: string;
}

export interface CoordinationSettings {
  /** The IP address or DNS name by which nodes reach it. */
  readonly hostname: string;
  /** What the nodes' names end with. @default the agent's own choice */
  readonly domain?: string;
  /** With a relay on the same instance it is the relay's. @default a certificate of its own */
  readonly acme?: Acme;
  /** The parameter that the join token is written to. @default it stays on the instance */
  readonly joinParameterName?: string;
  /** The map of the relays, as DERPMap JSON. @default the relay on the same instance */
  readonly derpMap?: string;
}

export interface CellSettings {
  readonly autoScalingGroup: string;
  readonly launchHook: string;
  readonly terminateHook: string;
  readonly ingressInterfaceId?: string | undefined;
  readonly identityVolumeId?: string | undefined;
}

export const AGENT_CONFIG_PATH = "/etc/sallyport/agent.json";
export const CELL_PATH = "/etc/sallyport/cell.json";
export const DERP_MAP_PATH = "/etc/sallyport/derp-map.json";
/** EC2 refuses more than 16 KB of user data, counted before base64. */
export const USER_DATA_LIMIT_BYTES = 16 * 1024;
const CONFIG_FOLDER = "/etc/sallyport";
const STATE_FOLDER = "/var/lib/sallyport";
/** Made by the coordination server of the same instance. */
const JOIN_TOKEN_PATH = `${STATE_FOLDER}/join-token`;

/** Throws where a prop can not be used or the text exceeds `USER_DATA_LIMIT_BYTES`. */
export function renderAgentUserData(props: AgentUserDataProps): string {
  const script = [
    "#!/bin/bash",
    "set -euo pipefail",
    `install -d -m 0755 ${CONFIG_FOLDER}`,
    ...files(props),
    ...(props.bundle === undefined ? onImage(props) : fetched(props, props.bundle)),
    "",
  ].join("\n");
  const bytes = new TextEncoder().encode(script).length;
  if (bytes > USER_DATA_LIMIT_BYTES) {
    throw new Error(
      `The user data is ${bytes} bytes and EC2 takes ${USER_DATA_LIMIT_BYTES}: shorten loginServer, hostname or the relay map.`,
    );
  }
  return script;
}

/** The keys are the agent's own: a test holds them against its schema. Keys without a value are left out. */
export function agentConfig(props: AgentUserDataProps): Readonly<Record<string, unknown>> {
  const { relay, coordination } = props;
  const own = coordination === undefined ? {} : ownNetwork(coordination, relay);
  // One writes the instance's health tags: the tunnel, and without it the relay, and without that the coordination server.
  const writer = props.tunnel !== false ? "tunnel" : relay !== undefined ? "relay" : "control";
  return defined({
    ...(props.tunnel === false
      ? {}
      : {
          port: tunnelPort(props.port, "AgentUserData port"),
          ...own,
          ...defined({
            loginServer: mapped(props.loginServer, (one) =>
              checkedLoginServer(one, "AgentUserData loginServer"),
            ),
            authKey: mapped(props.authKeySource, checkedSource),
          }),
          endpoints: mapped(props.endpoint, (one) => [one]),
          healthCheckPort: props.healthCheckPort,
          hostname: mapped(props.hostname, (one) => checkedHostname(one, "AgentUserData hostname")),
          advertiseExitNode: props.advertiseExitNode,
          egressMode: props.egressMode,
          egressAddresses: props.egressAddresses,
          healthTags: mapped(props.healthTags, (one) => (one ? "on" : "off")),
        }),
    relay:
      relay === undefined ? undefined : relayConfig(relay, coordination !== undefined, writer === "relay"),
    control: coordination === undefined ? undefined : controlConfig(coordination, writer === "control"),
  });
}

/**
 * It joins by the loopback, since its public address may not be its own yet when it starts; but an authority's certificate is
 * for the public name or address alone.
 */
function ownNetwork({ hostname, acme }: CoordinationSettings, relay: RelaySettings | undefined) {
  const isPublic = acme !== undefined || relay?.acme !== undefined;
  return {
    loginServer: isPublic ? `https://${hostname}` : "https://127.0.0.1",
    authKey: `file:${JOIN_TOKEN_PATH}`,
    // The server starts at the same time, and writes it then.
    authKeyWait: 60,
  };
}

function relayConfig(
  relay: RelaySettings,
  coordination: boolean,
  writesTags: boolean,
): Readonly<Record<string, unknown>> {
  const { address, hostname, acme, regionId, regionCode, regionName } = relay;
  return defined({
    ...(acme === undefined ? {} : acmeConfig(acme)),
    ...{ address, hostname, regionId, regionCode, regionName },
    coordination: coordination ? true : undefined,
    healthTags: writesTags ? "auto" : undefined,
  });
}

function controlConfig(
  coordination: CoordinationSettings,
  writesTags: boolean,
): Readonly<Record<string, unknown>> {
  return defined({
    ...(coordination.acme === undefined ? {} : acmeConfig(coordination.acme)),
    hostname: coordination.hostname,
    domain: coordination.domain,
    derpMap: coordination.derpMap === undefined ? undefined : DERP_MAP_PATH,
    joinTokenFile: JOIN_TOKEN_PATH,
    joinToken: mapped(coordination.joinParameterName, (name) => `ssm:${name}`),
    healthTags: writesTags ? "auto" : undefined,
  });
}

function files(props: AgentUserDataProps): readonly string[] {
  const { cell, coordination } = props;
  return [
    ...fileLines(AGENT_CONFIG_PATH, "SALLYPORT_AGENT_JSON", json(agentConfig(props))),
    ...(cell === undefined ? [] : fileLines(CELL_PATH, "SALLYPORT_CELL_JSON", json(cell))),
    ...(coordination?.derpMap === undefined
      ? []
      : fileLines(DERP_MAP_PATH, "SALLYPORT_DERP_MAP", coordination.derpMap)),
  ];
}

function fileLines(path: string, end: string, content: string): readonly string[] {
  if (content.split("\n").includes(end))
    throw new Error(`The file ${path} holds the line that ends it: ${end}.`);
  return [`cat > ${path} <<'${end}'`, content, end, `chmod 0644 ${path}`];
}

/** The image brings the agent and its units, and nothing of what our start-up does for the rest. */
function onImage(props: AgentUserDataProps): readonly string[] {
  for (const prop of ["coordination", "cell", "identityVolumeId"] as const) {
    if (props[prop] !== undefined) {
      throw new Error(`AgentUserData ${prop} needs bundle: give one, or leave ${prop} out.`);
    }
  }
  const names = unitsOf(props).map(({ name }) => name);
  return [
    ...names.flatMap((name) => [
      `if ! systemctl cat ${name} > /dev/null 2>&1; then`,
      `  echo "sallyport: ${name} is not on this image: install the agent, then run: systemctl enable --now ${name}" >&2`,
      "  exit 1",
      "fi",
    ]),
    ...(props.egressMode === "split" ? LEAVE_ROUTES_ALONE : []),
    `systemctl enable --now ${names.join(" ")}`,
  ];
}

function unitsOf(props: AgentUserDataProps): readonly Unit[] {
  return agentUnits({
    tunnel: props.tunnel ?? true,
    server: props.relay !== undefined ? "relay" : props.coordination !== undefined ? "control" : undefined,
    cell: props.cell !== undefined,
  });
}

function fetched(props: AgentUserDataProps, bundle: BundleLocation): readonly string[] {
  const units = unitsOf(props);
  return [
    ...deliveryScript(bundle),
    ...(props.advertiseExitNode === true ? FORWARDING_TOOLS : []),
    ...(props.egressMode === "split" ? LEAVE_ROUTES_ALONE : []),
    ...(props.cell === undefined ? [] : ["/usr/local/bin/sallyport cell claim"]),
    ...(props.identityVolumeId === undefined ? [] : mountScript(props.identityVolumeId)),
    `install -d -m 0700 -o sallyport -g sallyport ${STATE_FOLDER}`,
    ...units.flatMap(({ name, text }) =>
      fileLines(`/etc/systemd/system/${name}`, "SALLYPORT_UNIT", text.trimEnd()),
    ),
    "systemctl daemon-reload",
    `systemctl enable --now ${units.map(({ name }) => name).join(" ")}`,
  ];
}

/** systemd-networkd takes away routes and rules that are not its own, and with them those of the second interface. */
const LEAVE_ROUTES_ALONE = [
  "install -d -m 0755 /etc/systemd/networkd.conf.d",
  "printf '[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n' > /etc/systemd/networkd.conf.d/50-sallyport.conf",
  "systemctl try-restart systemd-networkd > /dev/null 2>&1 || true",
];

/** Nitro instances show a volume under its id, without the hyphen. It is attached while the instance starts. */
function mountScript(volumeId: string): readonly string[] {
  return [
    `volume=${volumeId}`,
    'device="/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_$(echo "$volume" | tr -d -)"',
    `for _ in $(seq 150); do [ -e "$device" ] && break; sleep 2; done`,
    `[ -e "$device" ] || { echo "sallyport: $volume is not attached" >&2; exit 1; }`,
    // A disk with anything on it is never formatted.
    `[ -n "$(blkid -p "$device" || true)" ] || mkfs.ext4 -q -L sallyport "$device"`,
    `install -d -m 0700 ${STATE_FOLDER}`,
    `grep -q " ${STATE_FOLDER} " /etc/fstab || echo "$device ${STATE_FOLDER} ext4 defaults,nodev,nosuid,noexec,nofail 0 2" >> /etc/fstab`,
    `mountpoint -q ${STATE_FOLDER} || mount ${STATE_FOLDER}`,
  ];
}

function checkedSource(source: string): string {
  if (isKnown(source) && !/^(ssm|secretsmanager):[\w/+=.@:-]+$/.test(source)) {
    throw new Error(
      'AgentUserData authKeySource is neither "ssm:NAME" nor "secretsmanager:ARN": make an AuthKey and give its source.',
    );
  }
  return source;
}

const json = (value: object): string => JSON.stringify(value, undefined, 2);

function mapped<T, U>(value: T | undefined, map: (value: T) => U): U | undefined {
  return value === undefined ? undefined : map(value);
}

function defined(values: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}
