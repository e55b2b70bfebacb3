/**
 * The systemd units of an instance: the tunnel, and the servers that share tcp/443. Each runs as a user of its own with the
 * capabilities it needs and sees as little of the machine as it can.
 */
import { AGENT_FOLDER } from "./agent-delivery.ts";

const AGENT_UNIT = "sallyport-agent.service";
export const RELAY_UNIT = "sallyport-relay.service";
const CELL_UNIT = "sallyport-cell.service";

export interface Unit {
  readonly name: string;
  readonly text: string;
}

export interface UnitsProps {
  readonly tunnel: boolean;
  /** The agent's command: `relay` serves coordination too where its configuration says so. */
  readonly server: "relay" | "control" | undefined;
  /** The node of a self-healing cell. */
  readonly cell?: boolean;
}

export function agentUnits({ tunnel, server, cell = false }: UnitsProps): readonly Unit[] {
  return [
    ...(server === undefined ? [] : [{ name: RELAY_UNIT, text: serverUnit(server) }]),
    ...(tunnel ? [{ name: AGENT_UNIT, text: agentUnit(server !== undefined) }] : []),
    ...(cell ? [{ name: CELL_UNIT, text: cellUnit() }] : []),
  ];
}

function agentUnit(afterServer: boolean): string {
  return unit({
    description: "Sallyport: the tunnel",
    after: afterServer ? ` ${RELAY_UNIT}` : "",
    command: "daemon",
    // TUN device, routes, rules and the packet filter; the tunnel's port may be a low one.
    capabilities: "CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE",
    extra: ["DevicePolicy=closed", "DeviceAllow=/dev/net/tun rw"],
  });
}

function serverUnit(command: string): string {
  return unit({
    description: "Sallyport: relay and coordination",
    after: "",
    command,
    capabilities: "CAP_NET_BIND_SERVICE",
    extra: ["PrivateDevices=yes", "ProtectKernelTunables=yes"],
  });
}

/** It stops the others and unmounts their volume, so it is root's and sees the machine as it is. */
function cellUnit(): string {
  const capabilities = "CAP_SYS_ADMIN CAP_DAC_OVERRIDE";
  return `[Unit]
Description=Sallyport: the node's place in its cell
Wants=network-online.target
After=network-online.target ${AGENT_UNIT}
StartLimitIntervalSec=0

[Service]
ExecStart=${AGENT_FOLDER}/node ${AGENT_FOLDER}/sallyport.mjs cell keep
User=root
Restart=on-failure
RestartSec=2
AmbientCapabilities=${capabilities}
CapabilityBoundingSet=${capabilities}
NoNewPrivileges=yes
ProtectHome=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictRealtime=yes
LockPersonality=yes
SystemCallArchitectures=native
UMask=0077

[Install]
WantedBy=multi-user.target
`;
}

interface UnitParts {
  readonly description: string;
  readonly after: string;
  readonly command: string;
  readonly capabilities: string;
  readonly extra: readonly string[];
}

/** Not MemoryDenyWriteExecute: Node.js makes its code while it runs. */
function unit({ description, after, command, capabilities, extra }: UnitParts): string {
  return `[Unit]
Description=${description}
Wants=network-online.target
After=network-online.target${after}
StartLimitIntervalSec=0
RequiresMountsFor=/var/lib/sallyport

[Service]
ExecStart=${AGENT_FOLDER}/node ${AGENT_FOLDER}/sallyport.mjs ${command}
EnvironmentFile=-/etc/default/sallyport
User=sallyport
Group=sallyport
Restart=always
RestartSec=2
LimitNOFILE=65536
StateDirectory=sallyport
StateDirectoryMode=0700
RuntimeDirectory=sallyport
RuntimeDirectoryPreserve=yes
AmbientCapabilities=${capabilities}
CapabilityBoundingSet=${capabilities}
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
UMask=0077
${extra.join("\n")}

[Install]
WantedBy=multi-user.target
`;
}
