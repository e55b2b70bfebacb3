import type { Command } from "commander";
import { UsageError } from "../base/errors.ts";
import { LocalApiClient } from "../io/local-api-client.ts";
import { readSettings, refuse } from "../io/settings.ts";
import type { CommandContext } from "./context.ts";
import { configOption, type FlagValues, newCommand, socketOf, socketOption } from "./options.ts";
import { addPrefsOptions, prefsSettings } from "./prefs-options.ts";

export function setCommand(context: CommandContext): Command {
  return addPrefsOptions(newCommand("set", "change single settings; what is not given stays as it was"))
    .addOption(socketOption())
    .addOption(configOption())
    .action(async (flags: FlagValues) => {
      const problems: string[] = [];
      // Variables and the configuration file say how a daemon begins. Only flags change one.
      const request = readSettings(prefsSettings, { flags, env: {}, file: {} }, problems);
      refuse(problems);
      if (Object.values(request).every((value) => value === undefined)) {
        throw new UsageError("nothing-to-set", "no setting was given: see `sallyport set --help`");
      }
      await new LocalApiClient(await socketOf(flags, context), context.stdio.interrupt).set(request);
    });
}
