/** The app that `cdktf synth` runs: the configuration → one stack per region. */
import { existsSync, readFileSync } from "node:fs";
import { App } from "cdktf";
import { ConfigError, parseConfig, type StackConfig } from "./config.ts";
import { ExitNodeStack } from "./exit-node-stack.ts";

const DEFAULT_CONFIG_FILE = "sallyport.config.json";

try {
  const app = new App();
  addExitNodes(app, readConfig(app));
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

function addExitNodes(app: App, { regions, ...node }: StackConfig): void {
  regions.forEach((region, index) => {
    const id = index === 0 ? "exit-node-stack" : `exit-node-stack-${region}`;
    new ExitNodeStack(app, id, { region, ...node });
  });
}
