import type { Command } from "commander";
import { type Millis, seconds } from "../base/time.ts";
import type { UpEvent } from "../health/local-backend.ts";
import { commonSettings, daemonSettings, DEFAULT_SOCKET } from "../io/config.ts";
import { LocalApiClient } from "../io/local-api-client.ts";
import { LONGEST_TIMEOUT } from "../io/local-api-server.ts";
import { readJoinKey } from "./auth-key.ts";
import { type CommandContext, printLines } from "./context.ts";
import {
  configOption,
  durationOption,
  type FlagValues,
  newCommand,
  settingsOf,
  socketOption,
} from "./options.ts";
import { addPrefsOptions, prefsSettings } from "./prefs-options.ts";
import { authUrlLines } from "./up-text.ts";

export function upCommand(context: CommandContext): Command {
  const command = newCommand("up", "bring the tunnel up; what is not given stays as it was")
    .option("--login-server <url>", "coordination server")
    .option("--auth-key <source>", "read the auth key from - (standard input), file:PATH or ssm:NAME")
    .option("--cert-pin <pin>", "the server's certificate, as sha256-raw:<hex>");
  return addPrefsOptions(command)
    .addOption(
      durationOption("--timeout", "how long to wait, 0 for without end", LONGEST_TIMEOUT).default(
        seconds(30),
        "30s",
      ),
    )
    .addOption(socketOption())
    .addOption(configOption())
    .action(async (flags: FlagValues & { readonly timeout: Millis }) => {
      context.exitCode = await up(flags, flags.timeout, context);
    });
}

/** What `up` takes of the daemon's settings. */
const upSettings = {
  socket: commonSettings.socket,
  loginServer: daemonSettings.loginServer,
  authKey: daemonSettings.authKey,
  certPin: daemonSettings.certPin,
  ...prefsSettings,
};

const INTERRUPTED = 130;

async function up(flags: FlagValues, timeoutMs: Millis, context: CommandContext): Promise<number> {
  const { interrupt, stderr } = context.stdio;
  const { socket, authKey, ...settings } = await settingsOf(upSettings, flags, context, "daemon");
  const key = await readJoinKey(authKey, context);
  const certPin = settings.certPin ?? key.certPin;
  const request = { ...settings, authKey: key.authKey, certPin, timeoutMs };
  const progress = new UpProgress(context);
  try {
    for await (const event of new LocalApiClient(socket ?? DEFAULT_SOCKET).up(request, interrupt)) {
      progress.handle(event);
    }
  } catch (error) {
    if (!interrupt.aborted) throw error;
    stderr.write("interrupted: the daemon goes on trying; `sallyport status` shows how it goes\n");
    return INTERRUPTED;
  }
  return progress.exitCode;
}

class UpProgress {
  readonly #context: CommandContext;
  #askedToLogIn = false;
  /** The daemon tries again and again; one sentence says what is wrong. */
  #lastWarning: string | undefined;
  exitCode = 1;

  constructor(context: CommandContext) {
    this.#context = context;
  }

  handle(event: UpEvent): void {
    const { stdout, stderr } = this.#context.stdio;
    switch (event.kind) {
      case "auth-url":
        this.#askedToLogIn = true;
        return printLines(stderr, authUrlLines(event.url));
      case "warning":
        if (event.text !== this.#lastWarning) printLines(stdout, [`Warning: ${event.text}`]);
        this.#lastWarning = event.text;
        return;
      case "running":
        this.exitCode = 0;
        return this.#askedToLogIn ? printLines(stderr, ["Success."]) : undefined;
      case "failed":
        return printLines(stderr, [event.message]);
    }
  }
}
