/** What the stack tells its instance: the agent's configuration in the user data, and the instance's name. */
import { UsageError } from "../agent/src/base/errors.ts";
import type { NodePart } from "./topology.ts";

type Told = Pick<NodePart, "namespace" | "userData">;

export interface NodeSettings {
  readonly hostname: string;
  /** UDP. */
  readonly port: number;
  /** The agent.json that the user data writes. */
  readonly config: Readonly<Record<string, unknown>>;
}

/** @throws UsageError when the user data doesn't write the agent's configuration */
export function readNodeSettings(instance: Told): NodeSettings {
  const config = agentConfig(instance);
  const port = config["port"] ?? DEFAULT_PORT;
  if (typeof port !== "number" || !Number.isInteger(port) || port < 1 || port > 65535) {
    throw new UsageError(
      "lab-stack",
      `${instance.namespace}: its user data: the agent's port is not 1 to 65535`,
    );
  }
  const hostname = config["hostname"];
  return {
    hostname: typeof hostname === "string" ? hostname : instance.namespace,
    port,
    config,
  };
}

const DEFAULT_PORT = 41641;
const HERE_DOCUMENT = /cat > \/etc\/sallyport\/agent\.json <<'(\w+)'\n([\s\S]*?)\n\1\n/;

function agentConfig(instance: Told): Readonly<Record<string, unknown>> {
  const text = HERE_DOCUMENT.exec(instance.userData)?.[2];
  if (text === undefined) {
    throw new UsageError(
      "lab-stack",
      `${instance.namespace}: its user data does not write /etc/sallyport/agent.json`,
    );
  }
  try {
    const config: unknown = JSON.parse(text);
    if (typeof config === "object" && config !== null) return config as Readonly<Record<string, unknown>>;
  } catch {
    // Said below, as for JSON that is no object.
  }
  throw new UsageError(
    "lab-stack",
    `${instance.namespace}: its user data: /etc/sallyport/agent.json is not a JSON object`,
  );
}
