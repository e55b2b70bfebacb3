import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Ip } from "../../../agent/src/base/address.ts";
import { ResolvedLink } from "../../../agent/src/io/exit-dns.ts";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sallyport-test-resolved-"));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** In the place of resolvectl: notes what it is told. */
function standIn(script: string): string {
  const file = join(folder, "resolvectl");
  writeFileSync(file, `#!/bin/sh\necho "$*" >> ${folder}/told\n${script}\n`);
  chmodSync(file, 0o755);
  return file;
}
const told = (): readonly string[] => readFileSync(join(folder, "told"), "utf8").trim().split("\n");
const SERVERS = ["9.9.9.9", "2620:fe::fe"].map((text) => Ip.parse(text));

test("systemd-resolved asks these servers by the tunnel for all names, is told once, and reverted in the end", async () => {
  const link = new ResolvedLink("tun7", standIn("exit 0"));
  expect([await link.use(SERVERS), await link.use(SERVERS), await link.use([])]).toEqual([true, true, true]);
  expect(told()).toEqual([
    "dns tun7 9.9.9.9 2620:fe::fe",
    "domain tun7 ~.",
    "default-route tun7 yes",
    "revert tun7",
  ]);
});

test("where it does not listen, that is said, and it is told again the next time", async () => {
  const link = new ResolvedLink("tun7", standIn("exit 1"));
  expect([await link.use(SERVERS), await link.use(SERVERS)]).toEqual([false, false]);
  expect(told()).toEqual(["dns tun7 9.9.9.9 2620:fe::fe", "dns tun7 9.9.9.9 2620:fe::fe"]);
});

test("where it is not installed it is as if it did not listen", async () => {
  expect(await new ResolvedLink("tun7", join(folder, "none")).use(SERVERS)).toBe(false);
});
