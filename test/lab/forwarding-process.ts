/** The agent's forwarding as a program of its own, for a namespace: it says what it does, line by line. */
import { readFileSync } from "node:fs";
import { Ip, IpPort, Prefix } from "../../agent/src/base/address.ts";
import type { Log, LogFields } from "../../agent/src/base/log.ts";
import { defaultNames } from "../../agent/src/core/exit/facts.ts";
import { Forwarding } from "../../agent/src/io/exit-node/forwarding.ts";
import type { NodeSettings } from "./exit-world.ts";

interface Told {
  readonly settings: Omit<NodeSettings, "metadata">;
  readonly entries?: Readonly<Record<string, string>>;
  readonly recordPath: string;
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const write = (event: string, fields: LogFields = {}): void => {
  say(`${event} ${JSON.stringify(fields)}`);
  say(`reasons ${JSON.stringify(forwarding.reasons())}`);
};
const log: Log = { debug: write, info: write, warn: write, error: write };

const { settings, entries, recordPath } = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8")) as Told;
const {
  advertised = [],
  mode = "auto",
  ipv6 = "block",
  ingressUid,
  egressAddresses = [],
  accept = [],
  exit = true,
  unanswered,
} = settings;
let asked = 0;
const find = async (path: string): Promise<string | undefined> => {
  if (path === unanswered?.path && asked++ < unanswered.times) throw new Error("nobody answers");
  return entries?.[path];
};
const forwarding = new Forwarding({
  settings: {
    ...{ tunnel: "tun0", port: 41_641, otherPorts: [], exit, mode, ipv6, names: defaultNames },
    ...{ ingressInterface: undefined, egressInterface: undefined, ingressUid },
    advertised: advertised.map((text) => Prefix.parse(text)),
  },
  recordPath,
  ...(entries === undefined ? {} : { metadata: { find }, isInstance: () => Promise.resolve(true) }),
  egressAddresses: egressAddresses.map((text) => Ip.parse(text)),
  accept,
  log,
});

process.on("SIGTERM", () => void forwarding.close().then(() => process.exit(0)));
const keepAlive = setInterval(() => {
  say(`reasons ${JSON.stringify(forwarding.reasons())}`);
  say(`tuning ${JSON.stringify(forwarding.tuned)}`);
  const { isOpen: open, isApplied: applied, proof } = forwarding;
  say(`state ${JSON.stringify({ open, applied, proven: proof.proven })}`);
}, 200);
await forwarding.start();
if (settings.seenPort !== undefined) forwarding.handleSeenPort(IpPort.parse(settings.seenPort));
if (settings.stun !== undefined) forwarding.handleStunServers([IpPort.parse(settings.stun)]);
say(`ready ${forwarding.isOpen ? "open" : "closed"}`);
void keepAlive;
