/** The app that `cdktf synth` runs: the configuration → one stack per region. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { App } from "cdktf";
import { defaultBundleFile } from "../constructs/agent-bundle.ts";
import { ConfigError, parseConfig, type StackConfig, type StackName } from "./config.ts";
import { CoordinationStack } from "./coordination-stack.ts";
import { ExitNodeStack } from "./exit-node-stack.ts";
import { RelayStack } from "./relay-stack.ts";

const DEFAULT_CONFIG_FILE = "sallyport.config.json";
const root = fileURLToPath(new URL("..", import.meta.url));

const CLASSES = {
  "exit-node-stack": ExitNodeStack,
  "relay-stack": RelayStack,
  "coordination-stack": CoordinationStack,
} satisfies Record<StackName, unknown>;

try {
  const app = new App({ stackTraces: false });
  addStacks(app, withAgent(readConfig(app)));
  app.synth();
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 2;
}

/** SALLYPORT_CONFIG names another file, and then it must be there. */
function readConfig(app: App): StackConfig {
  const named = process.env["SALLYPORT_CONFIG"];
  const file = named ?? DEFAULT_CONFIG_FILE;
  if (named !== undefined && !existsSync(named)) {
    throw new ConfigError(
      `SALLYPORT_CONFIG names ${named}, which is not there: create it or unset the variable.`,
    );
  }
  return parseConfig([
    { name: file, content: existsSync(file) ? readFileSync(file, "utf8") : undefined },
    { name: "context sallyport", content: app.node.tryGetContext("sallyport") },
  ]);
}

/** The first deploy makes the agent's archive. It is not made again by itself: a new agent is a new instance. */
function withAgent(config: StackConfig): StackConfig {
  if (config.agent !== undefined) return config;
  const file = defaultBundleFile(config.architecture);
  if (!existsSync(file)) {
    const bundle = [join(root, "bin/bundle.mjs"), config.architecture];
    const { status } = spawnSync(process.execPath, bundle, { stdio: ["ignore", 2, 2] });
    if (status !== 0 || !existsSync(file)) {
      throw new ConfigError(`${file} is not there and can not be made: see above, or name another in agent.`);
    }
  }
  return { ...config, agent: { file } };
}

/** The first region's stack has the bare name. */
function addStacks(app: App, config: StackConfig): void {
  for (const name of config.stacks) {
    config.regions.forEach((region, index) => {
      new CLASSES[name](app, index === 0 ? name : `${name}-${region}`, { ...config, region, index });
    });
  }
}
