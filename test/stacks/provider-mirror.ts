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
const platform = `${process.platform}_${process.arch === "x64" ? "amd64" : process.arch}`;

export interface ProviderMirror {
  /** For `terraform init -plugin-dir`. */
  readonly folder: string;
  readonly version: string;
  /** The provider's own folder, as `dev_overrides` wants it. */
  readonly provider: string;
}

/**
 * Terraform's own settings (CLI configuration) that take the provider from a mirror. As an override besides, so that the 700 MB
 * are read for their hash when a folder is initialized, not in each command.
 */
export function terraformConfig(mirror: ProviderMirror | undefined): string {
  return `provider_installation {
  dev_overrides { "hashicorp/aws" = "${mirror?.provider ?? ""}" }
  filesystem_mirror { path = "${mirror?.folder ?? ""}" }
}
`;
}

/** The first folder that holds the AWS provider for this platform, unpacked; undefined where there is none. */
export function findProviderMirror(): ProviderMirror | undefined {
  for (const folder of [
    ...configuredPlaces(),
    ...USUAL_PLACES,
    ...SEARCHED.flatMap((top) => below(top, SEARCH_DEPTH)),
  ]) {
    const version = newestVersion(join(folder, PROVIDER));
    if (version !== undefined)
      return { folder, version, provider: join(folder, PROVIDER, version, platform) };
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
  return readdirSync(provider)
    .filter((version) => existsSync(join(provider, version, platform)))
    .sort((a, b) => a.localeCompare(b, "en", { numeric: true }))
    .at(-1);
}
