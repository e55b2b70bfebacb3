/** Exit traffic: choosing the exit node on a client, and asking the lab's web server whom it sees. */
import { OperationError } from "../../agent/src/base/errors.ts";
import type { Session } from "../session.ts";
import { seenBy } from "../web.ts";

/** Sends all traffic of a client by a node. @throws OperationError with what the client said */
export async function useExitNode(session: Session, client: string, node: string): Promise<void> {
  const { code, lines } = await session.command(client, ["set", `--exit-node=${node}`]);
  if (code !== 0) throw new OperationError("lab-exit", `${client} takes no exit node: ${lines.at(-1) ?? ""}`);
}

/** The address that the web server sees; undefined when nothing comes back. */
export async function askExit(
  session: Session,
  client: string,
  sourcePort: number | undefined,
): Promise<string | undefined> {
  const web = session.lab.topology.cast.web?.ip.text;
  if (web === undefined) throw new OperationError("lab-web", "the scenario has no host with the role web");
  const command =
    sourcePort === undefined
      ? ["http-get", `http://${web}/`]
      : ["udp-get", `${web}:80`, "--from", String(sourcePort)];
  const { lines } = await session.probe(client, command);
  return seenBy(lines);
}
