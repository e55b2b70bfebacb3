/**
 * Leaves out of AWS's SDK what is not used: EC2's client alone goes from 1.3 to 0.5 MiB.
 *
 * Its tables of messages name their fields by constants (`{ [_N]: … }`), which to esbuild is code that may do something, so no
 * table can go. With the constants' texts put in, every table that no command in use needs is dropped.
 */
import { readFileSync } from "node:fs";

export const awsTables = {
  name: "aws-tables",
  setup(build) {
    build.onLoad({ filter: /[\\/]@aws-sdk[\\/].*[\\/]schemas_0\.js$/ }, ({ path }) => ({
      contents: withNamedFields(readFileSync(path, "utf8")),
    }));
    // Of each package only its name and version are used.
    build.onLoad({ filter: /[\\/]node_modules[\\/].*[\\/]package\.json$/ }, ({ path }) => {
      const { name, version } = JSON.parse(readFileSync(path, "utf8"));
      return { contents: JSON.stringify({ name, version }), loader: "json" };
    });
  },
};

/** Only its modules can be taken apart, not what it offers to `require`. */
export const AWS_MAIN_FIELDS = ["module", "main"];

function withNamedFields(code) {
  const texts = new Map(
    [...code.matchAll(/^const (_\w+) = ("[^"]*");$/gm)].map(([, name, text]) => [name, text]),
  );
  return code.replace(/\[(_\w+)\]:/g, (field, name) => (texts.has(name) ? `${texts.get(name)}:` : field));
}
