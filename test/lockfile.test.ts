import { readFileSync } from "node:fs";
import { join } from "node:path";

interface Package {
  readonly version?: string;
  readonly resolved?: string;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const lockfile = readFileSync(join(__dirname, "../package-lock.json"), "utf8");
const { packages } = JSON.parse(lockfile) as { readonly packages: Readonly<Record<string, Package>> };

/** Node's own search: the package's folder, then those above it. */
function installedFor(path: string, name: string): Package | undefined {
  const found = packages[`${path === "" ? "" : `${path}/`}node_modules/${name}`];
  if (found !== undefined || path === "") return found;
  return installedFor(path.slice(0, Math.max(0, path.lastIndexOf("/node_modules/"))), name);
}

test("npm ci finds every platform's native packages, also those that the registry of whoever wrote it lacked", () => {
  const missing = Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies).filter((name) => installedFor(path, name)?.version === undefined),
  );
  expect(missing).toEqual([]);
});

test("no registry is written into it: each machine uses its own", () => {
  expect(Object.values(packages).filter(({ resolved }) => resolved !== undefined)).toEqual([]);
});
