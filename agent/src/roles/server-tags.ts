/** The health tags of an instance that is relay or coordination server and has no tunnel, which would write them else. */
import type { IpPort } from "../base/address.ts";
import type { Log } from "../base/log.ts";
import type { Random } from "../base/random.ts";
import type { WallTime } from "../base/time.ts";
import { VERSION } from "../base/version.ts";
import { type NodeState, serverState } from "../health/node-tags.ts";
import type { HealthProblem } from "../health/reasons.ts";
import type { InstanceTags } from "../io/aws/instance-tags.ts";
import { systemCalendar } from "../io/calendar.ts";
import type { HealthTagsMode } from "../io/config.ts";
import { startHealthTags } from "./health-tags.ts";

export interface TaggedServer {
  certificateEnds(): WallTime | undefined;
  close(): Promise<void>;
}

export interface ServerTagsOptions {
  readonly healthTags: HealthTagsMode;
  readonly stateDir: string;
  /** Where clients reach it, if that is known by address. */
  readonly endpoint: IpPort | undefined;
  /** The code of its region, where it is a relay. */
  readonly relay: string | undefined;
  readonly log: Log;
  readonly tags?: InstanceTags;
  readonly random?: Random;
}

/** Writes how the server is until it is closed, and says so at its end. */
export async function withServerTags<Server extends TaggedServer>(
  server: Server,
  { healthTags: mode, ...options }: ServerTagsOptions,
): Promise<Server> {
  const tags = await startHealthTags({ ...options, mode, read: () => stateOf(server, options) });
  const close = async (): Promise<void> => {
    await Promise.all([tags.close(), server.close()]);
  };
  return { ...server, close };
}

function stateOf(
  server: TaggedServer,
  { endpoint, relay }: Omit<ServerTagsOptions, "healthTags">,
): NodeState {
  const ends = server.certificateEnds();
  const text = "The certificate has ended and could not be renewed: clients without its pin refuse it.";
  const ended: HealthProblem = { reason: "certificate-ended", text };
  const problems = ends !== undefined && ends < systemCalendar.now() ? [ended] : [];
  return serverState({ version: VERSION, endpoint, relay, problems });
}
