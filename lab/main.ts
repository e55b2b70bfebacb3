/**
 * The lab's program: `demo` is the story that `npm start` tells; the others are what the lab starts in its namespaces, so
 * that one file has all it needs.
 */
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { Ip, IpPort } from "../agent/src/base/address.ts";
import { ParseError, SallyportError, UsageError } from "../agent/src/base/errors.ts";
import { watch } from "./cleanup.ts";
import { down, exec, status } from "./commands/others.ts";
import { test } from "./commands/test.ts";
import { serve, up, type UpOptions } from "./commands/up.ts";
import type { Session } from "./session.ts";
import { parseDelayLine, runDelayLines } from "./delay-line.ts";
import { demo, type DemoOptions } from "./demo.ts";
import { fetchHttp, serveHttp } from "./http.ts";
import { icmpEcho } from "./icmp.ts";
import { askByUdp, serveWeb } from "./web.ts";

const USAGE = `usage: lab up [--stack STACK] [--scenario FILE] [--name NAME]
       lab status
       lab exec NODE [--name NAME] -- COMMAND…
       lab down [--name NAME | --all]
       lab test [FILE…]
       lab demo [--stack FILE] [--agent FOLDER] [--closed-port] [--loopback] [--keep]
       lab icmp ADDRESS [--count N]
       lab http-get URL
       lab http-server PORT`;

/** The package: this runs as dist/lab/lab.mjs. */
const root = join(dirname(process.argv[1] ?? ""), "../..");
/** How to run this program again. */
const self = [process.execPath, ...process.execArgv, process.argv[1] ?? ""];

async function main([command = "", ...args]: readonly string[]): Promise<number> {
  switch (command) {
    case "demo":
      return demo({ ...demoOptions(args), root, self });
    case "up":
      return up(upOptions(args), say);
    case "serve":
      return serveUntilEnded(args);
    case "status":
      if (args.length > 0) throw new UsageError("lab-command", USAGE);
      return status(say);
    case "exec":
      return execIn(args);
    case "down":
      return downNamed(args);
    case "test":
      return testScenarios(args);
    case "icmp":
      return icmp(args);
    case "http-get":
      return httpGet(args);
    case "http-server":
      return httpServer(args);
    case "web":
      await serveWeb(Number(only(args)));
      say("listening");
      return forever();
    case "udp-get":
      return udpGet(args);
    case "delay-line":
      return delayLines(args);
    case "watchdog":
      await watch(only(args));
      return 0;
    default:
      throw new UsageError("lab-command", `there is no command “${command}”\n${USAGE}`);
  }
}

function demoOptions(args: readonly string[]): Omit<DemoOptions, "self" | "root"> {
  const { values } = parsed({
    args: [...args],
    options: {
      stack: { type: "string" },
      agent: { type: "string", default: join(root, "dist/agent") },
      "closed-port": { type: "boolean", default: false },
      loopback: { type: "boolean", default: false },
      keep: { type: "boolean", default: false },
    },
  });
  if (values.stack !== undefined && values["closed-port"]) {
    throw new UsageError(
      "lab-command",
      "--closed-port is for the stack that the lab synthesizes; leave out --stack",
    );
  }
  const { agent, loopback, keep } = values;
  return { stack: values.stack, agent, closedPort: values["closed-port"], loopback, keep };
}

function upOptions(args: readonly string[]): UpOptions {
  const { values } = parsed({
    args: [...args],
    options: {
      stack: { type: "string" },
      scenario: { type: "string" },
      name: { type: "string" },
      agent: { type: "string", default: join(root, "dist/agent") },
    },
  });
  const { stack, scenario, name, agent } = values;
  return { root, self, stack, scenario, name, agent };
}

async function serveUntilEnded(args: readonly string[]): Promise<number> {
  let ended = false;
  let opened: Promise<Session> | undefined;
  const end = (): void => {
    if (ended) return;
    ended = true;
    void (opened ?? Promise.resolve(undefined))
      .then((session) => session?.close())
      .catch(() => {})
      .finally(() => process.exit(0));
  };
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, end);
  opened = serve(upOptions(args), say);
  await opened;
  return forever();
}

async function execIn(args: readonly string[]): Promise<number> {
  const at = args.indexOf("--");
  const [own, command] = at < 0 ? [args, []] : [args.slice(0, at), args.slice(at + 1)];
  const { values, positionals } = parsed({
    args: [...own],
    allowPositionals: true,
    options: { name: { type: "string" } },
  });
  const node = only(positionals);
  if (command.length === 0) throw new UsageError("lab-command", `name the command after --\n${USAGE}`);
  return exec(node, command, values.name);
}

async function downNamed(args: readonly string[]): Promise<number> {
  const { values } = parsed({
    args: [...args],
    options: { name: { type: "string" }, all: { type: "boolean", default: false } },
  });
  return down({ name: values.name, all: values.all }, say);
}

async function testScenarios(args: readonly string[]): Promise<number> {
  const { values, positionals } = parsed({
    args: [...args],
    allowPositionals: true,
    options: { agent: { type: "string", default: join(root, "dist/agent") } },
  });
  return test(positionals, { root, self, agent: values.agent, say });
}

async function icmp(args: readonly string[]): Promise<number> {
  const { values, positionals } = parsed({
    args: [...args],
    allowPositionals: true,
    options: { count: { type: "string", default: "3" } },
  });
  const to = Ip.parse(only(positionals));
  let answered = 0;
  for (let sequence = 1; sequence <= Number(values.count); sequence++) {
    const took = await icmpEcho(to, sequence, ICMP_TIMEOUT_MS);
    if (took !== undefined) answered++;
    say(took === undefined ? `no echo from ${to.text}` : `echo from ${to.text} in ${took.toFixed(1)} ms`);
  }
  return answered > 0 ? 0 : 1;
}

async function httpGet(args: readonly string[]): Promise<number> {
  const answer = await fetchHttp(only(args), HTTP_TIMEOUT_MS).catch((error: unknown) => {
    say(`no answer: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  });
  if (answer === undefined) return 1;
  say(`HTTP ${answer.status} in ${answer.tookMs.toFixed(0)} ms: ${answer.body.trim()}`);
  return answer.status === 200 ? 0 : 1;
}

/** ADDRESS:PORT from a source port of one's own. */
async function udpGet(args: readonly string[]): Promise<number> {
  const { values, positionals } = parsed({
    args: [...args],
    allowPositionals: true,
    options: { from: { type: "string", default: "0" } },
  });
  const to = IpPort.parse(only(positionals));
  const answer = await askByUdp(to.ip.text, to.port, Number(values.from), HTTP_TIMEOUT_MS);
  say(answer ?? "no answer");
  return answer === undefined ? 1 : 0;
}

async function httpServer(args: readonly string[]): Promise<number> {
  const { port } = await serveHttp(Number(only(args)));
  say(`listening on ${port}`);
  return forever();
}

async function delayLines(args: readonly string[]): Promise<number> {
  const specs = args.map((text) => {
    const spec = parseDelayLine(text);
    if (spec === undefined) throw new UsageError("lab-delay-line", `not DEVICE:DEVICE:MILLISECONDS: ${text}`);
    return spec;
  });
  await runDelayLines(specs);
  say("ready");
  return forever();
}

const ICMP_TIMEOUT_MS = 2_000;
const HTTP_TIMEOUT_MS = 5_000;

function only(args: readonly string[]): string {
  const [first, ...more] = args;
  if (first === undefined || more.length > 0) throw new UsageError("lab-command", USAGE);
  return first;
}

/** parseArgs, with its complaints as ours. */
const parsed: typeof parseArgs = (config) => {
  try {
    return parseArgs(config);
  } catch (cause) {
    throw new UsageError(
      "lab-command",
      `${cause instanceof Error ? cause.message : String(cause)}\n${USAGE}`,
    );
  }
};

const say = (line: string): boolean => process.stdout.write(`${line}\n`);
const forever = (): Promise<never> => new Promise(() => {});

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    const known = error instanceof SallyportError;
    process.stderr.write(
      `lab: ${known ? error.message : error instanceof Error ? error.stack : String(error)}\n`,
    );
    process.exitCode = error instanceof UsageError || error instanceof ParseError ? 2 : 1;
  },
);
