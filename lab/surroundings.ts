/**
 * What a stack that is tried out finds around it: three clients behind different routers, a web server, and what the stack expects
 * of the world: its login server, and the keys that people store. A stack that is complete in itself gets no servers.
 */
import type { RunningCloud } from "./cloud/running.ts";
import { JOIN_TOKEN } from "./session.ts";
import { type HostSpec, RELAY_DELAY_MS, type World } from "./world.ts";

export interface Surroundings {
  readonly world: World;
  readonly names: Readonly<Record<string, string>>;
  readonly store: Readonly<Record<string, string>>;
}

export function surroundings(cloud: RunningCloud): Surroundings {
  const told = cloud.instances.map(({ userData }) => userData).join("\n");
  const servers = [...told.matchAll(/"loginServer": "https:\/\/([^"/:]+)/g)].map(([, host = ""]) => host);
  const keys = [...told.matchAll(/"authKey": "(ssm|secretsmanager):([^"]+)"/g)].map(([, , key = ""]) => key);
  const own = told.includes('"control": {');
  const hosts: HostSpec[] = [
    { name: "web", role: "web" },
    ...(own
      ? []
      : [
          { name: "nyc", role: "relay" as const, delayMs: RELAY_DELAY_MS },
          { name: "control", role: "control" as const },
        ]),
    { name: "laptop", role: "client", nat: "easy" },
    { name: "office", role: "client", nat: "hard" },
    { name: "hotel", role: "client", nat: "udp-blocked" },
  ];
  return {
    world: { hosts, networks: {}, regionDelayMs: {} },
    names: own ? {} : Object.fromEntries(servers.map((host) => [host, "control"])),
    store: Object.fromEntries(keys.map((key) => [key, JOIN_TOKEN])),
  };
}
