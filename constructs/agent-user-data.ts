/**
 * What an instance is told at its first boot, as a cloud-init shell script.
 *
 * Pure: the same props give the same text. It carries no secret, since anyone who may describe the instance reads it.
 * It writes the agent's configuration and starts the agent's systemd unit, both expected on the image: fetching and
 * installing the agent itself is not done here.
 */
import { tunnelPort } from "./tunnel-port.ts";

export interface AgentUserDataProps {
  /**
   * The UDP port of the tunnel, from 1 to 65535.
   * @default 41641
   */
  readonly port?: number;
  /**
   * The coordination server, as https://ADDRESS.
   * @default whatever the agent on the image is set up for
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
}

export const AGENT_CONFIG_PATH = "/etc/sallyport/agent.json";
export const AGENT_UNIT = "sallyport-agent.service";
/** EC2 refuses more than 16 KB of user data, counted before base64. */
export const USER_DATA_LIMIT_BYTES = 16 * 1024;

const END_OF_CONFIG = "SALLYPORT_AGENT_JSON";

/** Throws where a prop can not be used or the text exceeds `USER_DATA_LIMIT_BYTES`. */
export function renderAgentUserData(props: AgentUserDataProps): string {
  const script = `#!/bin/bash
set -euo pipefail
install -d -m 0755 ${AGENT_CONFIG_PATH.slice(0, AGENT_CONFIG_PATH.lastIndexOf("/"))}
cat > ${AGENT_CONFIG_PATH} <<'${END_OF_CONFIG}'
${JSON.stringify(agentConfig(props), undefined, 2)}
${END_OF_CONFIG}
chmod 0644 ${AGENT_CONFIG_PATH}
if ! systemctl cat ${AGENT_UNIT} > /dev/null 2>&1; then
  echo "sallyport: ${AGENT_UNIT} is not on this image: install the agent, then run: systemctl enable --now ${AGENT_UNIT}" >&2
  exit 1
fi
systemctl enable --now ${AGENT_UNIT}
`;
  const bytes = new TextEncoder().encode(script).length;
  if (bytes > USER_DATA_LIMIT_BYTES) {
    throw new Error(
      `The user data is ${bytes} bytes and EC2 takes ${USER_DATA_LIMIT_BYTES}: shorten loginServer or hostname.`,
    );
  }
  return script;
}

/** The keys are the agent's own: a test holds them against its schema. Keys without a value are left out. */
export function agentConfig(props: AgentUserDataProps): Readonly<Record<string, unknown>> {
  return {
    port: tunnelPort(props.port, "AgentUserData port"),
    ...(props.loginServer === undefined ? {} : { loginServer: checkedLoginServer(props.loginServer) }),
    ...(props.hostname === undefined ? {} : { hostname: checkedHostname(props.hostname) }),
    ...(props.advertiseExitNode === undefined ? {} : { advertiseExitNode: props.advertiseExitNode }),
  };
}

function checkedLoginServer(loginServer: string): string {
  if (!/^https:\/\/[^\s'"`\\@?#]+$/.test(loginServer)) {
    throw new Error(
      'AgentUserData loginServer is not a web address: give it as "https://ADDRESS", without user, password or query.',
    );
  }
  return loginServer;
}

function checkedHostname(hostname: string): string {
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i.test(hostname)) {
    throw new Error(
      `AgentUserData hostname is "${hostname}": give 1 to 63 letters, digits and hyphens, a hyphen neither first nor last.`,
    );
  }
  return hostname;
}
