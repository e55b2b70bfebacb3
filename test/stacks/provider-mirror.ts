import { existsSync, readdirSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** Where Terraform itself looks without being told, and where people put mirrors. */
const USUAL_PLACES = [
  join(homedir(), ".terraform.d/plugins"),
  join(homedir(), ".local/share/terraform/plugins"),
  "/usr/local/share/terraform/plugins",
  "/usr/share/terraform/plugins",
];
const SEARCHED = ["/opt", "/usr/local/share", "/usr/share/terraform", "/var/lib"];
const SEARCH_DEPTH = 3;
const PROVIDER = "registry.terraform.io/hashicorp/aws";

export interface ProviderMirror {
  /** For `terraform init -plugin-dir`. */
  readonly folder: string;
  readonly version: string;
}

/** The first folder that holds the AWS provider for this platform, unpacked; undefined where there is none. */
export function findProviderMirror(): ProviderMirror | undefined {
  for (const folder of [
    ...configuredPlaces(),
    ...USUAL_PLACES,
    ...SEARCHED.flatMap((top) => below(top, SEARCH_DEPTH)),
  ]) {
    const version = newestVersion(join(folder, PROVIDER));
    if (version !== undefined) return { folder, version };
  }
  return undefined;
}

function configuredPlaces(): readonly string[] {
  const { TF_CLI_CONFIG_FILE: config, TF_PLUGIN_CACHE_DIR: cache } = process.env;
  const file = config ?? join(homedir(), ".terraformrc");
  const text = existsSync(file) ? readFileSync(file, "utf8") : "";
  const mirrors = [...text.matchAll(/filesystem_mirror\s*\{[^}]*?path\s*=\s*"([^"]+)"/g)].map(
    ([, path = ""]) => path,
  );
  return [...mirrors, ...(cache === undefined ? [] : [cache])];
}

function below(folder: string, depth: number): readonly string[] {
  if (depth === 0 || !existsSync(folder)) return [];
  const folders = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(folder, entry.name));
  return [folder, ...folders.flatMap((inner) => below(inner, depth - 1))];
}

function newestVersion(provider: string): string | undefined {
  if (!existsSync(provider)) return undefined;
  const platform = `${process.platform}_${process.arch === "x64" ? "amd64" : process.arch}`;
  return readdirSync(provider)
    .filter((version) => existsSync(join(provider, version, platform)))
    .sort((a, b) => a.localeCompare(b, "en", { numeric: true }))
    .at(-1);
}
