import type { Command } from "commander";
import { UsageError } from "../base/errors.ts";
import { type Millis, millis } from "../base/time.ts";
import { controlServer, controlSocketOption } from "./control-socket.ts";
import type { CommandContext } from "./context.ts";
import { configOption, durationOption, HOUR, newCommand } from "./options.ts";

interface AuthKeyFlags {
  readonly reusable: boolean;
  readonly ephemeral: boolean;
  readonly tag: readonly string[];
  readonly expiry?: Millis;
}

export function authKeyCommand(context: CommandContext): Command {
  return newCommand("auth-key", "keys by which nodes join").addCommand(createCommand(context));
}

/** Ten years: who wants longer wants for ever. */
const LONGEST_EXPIRY: Millis = millis(10 * 365 * 24 * HOUR);

function createCommand(context: CommandContext): Command {
  return newCommand("create", "make an auth key and print it; it is shown only once")
    .option("--reusable", "for more than one node", false)
    .option("--ephemeral", "nodes that join with it are forgotten once they are gone", false)
    .option("--tag <tag>", "tag of the nodes that join with it; may be repeated", addTag, [])
    .addOption(
      durationOption(
        "--expiry",
        "how long nodes may join with it, such as 24h (default for ever)",
        LONGEST_EXPIRY,
      ),
    )
    .addOption(controlSocketOption())
    .addOption(configOption())
    .action(async (_flags: AuthKeyFlags, self: Command) => {
      const flags = self.optsWithGlobals<AuthKeyFlags>();
      const { reusable, ephemeral, tag: tags, expiry } = flags;
      const server = await controlServer({ ...flags }, context);
      const expirySeconds = expiry === undefined ? undefined : expiry / 1000;
      const { key } = await server.createAuthKey({ reusable, ephemeral, tags, expirySeconds });
      context.stdio.stdout.write(`${key}\n`);
    });
}

function addTag(text: string, former: readonly string[]): readonly string[] {
  if (/^tag:[a-zA-Z][a-zA-Z0-9-]*$/.test(text)) return [...former, text];
  throw new UsageError(
    "bad-tag",
    `--tag is "${text}": give tag: and letters, digits or hyphens, such as tag:exit`,
  );
}
