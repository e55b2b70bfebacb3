/** The texts of `up`. */

/** How to log in with a browser; lines without line ends. */
export function authUrlLines(url: string): readonly string[] {
  return ["", "To authenticate, visit:", "", `\t${url}`, ""];
}

/**
 * Said when `up` would silently drop settings that were made before. Ours keeps them, so no command says it yet: it is
 * here for the published samples.
 * @param flags all settings that are not the default, as they are written on the command line
 */
export function mentionAllLines(flags: readonly string[]): readonly string[] {
  return [
    "Error: changing settings via 'sallyport up' requires mentioning all",
    "non-default flags. To proceed, either re-run your command with --reset or",
    "use the command below to explicitly mention the current value of",
    "all non-default settings:",
    "",
    `\tsallyport up ${flags.join(" ")}`,
    "",
  ];
}
