import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { renderAgentUserData } from "../../../constructs/agent-user-data.ts";
import { Machine } from "../../../lab/machine/machine.ts";
import { Processes } from "../../../lab/processes.ts";
import { requires } from "../../skip.ts";
import { isRoot } from "../services/world.ts";

const testAsRoot = requires("root", isRoot, "namespaces need Linux and root: run the tests as root");
const NETNS = `spmc${process.pid}`;
const VOLUME = "vol-0123456789abcdef0";

let folder: string;
let processes: Processes;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sallyport-machine-"));
  processes = new Processes("test", join(folder, "logs"));
  if (isRoot) spawnSync("ip", ["netns", "add", NETNS]);
});
afterEach(async () => {
  await processes.stopAll();
  spawnSync("ip", ["netns", "del", NETNS]);
  rmSync(folder, { recursive: true });
});

const start = (name: string) =>
  Machine.start({ name, netns: NETNS, folder: join(folder, name), caFile: undefined, processes });

/** What a shell on the machine says. */
async function ask(machine: Machine, script: string): Promise<string> {
  const asked = machine.start("ask", ["sh", "-c", script]);
  await asked.exited;
  return asked.lines.join("\n");
}

/** The lines of the real user data that mount the volume; the rest is about the agent. */
const MOUNTING = (() => {
  const bundle = { url: "https://example.com/a.tar", sha256: "0".repeat(64) };
  const lines = renderAgentUserData({ bundle, identityVolumeId: VOLUME }).split("\n");
  const from = lines.indexOf(`volume=${VOLUME}`);
  const to = lines.indexOf("mountpoint -q /var/lib/sallyport || mount /var/lib/sallyport");
  return ["#!/bin/bash", "set -euo pipefail", ...lines.slice(from, to + 1), ""].join("\n");
})();

testAsRoot("what is written on it stays on it", async () => {
  const machine = await start("one");
  await ask(
    machine,
    "echo x > /etc/machine-test; echo y > /opt/machine-test; echo z > /var/lib/machine-test",
  );
  expect(await ask(machine, "cat /etc/machine-test /opt/machine-test /var/lib/machine-test; hostname")).toBe(
    "x\ny\nz\none",
  );
  for (const place of ["/etc", "/opt", "/var/lib"]) expect(existsSync(`${place}/machine-test`)).toBe(false);
});

testAsRoot(
  "a volume is formatted at its first use only, and what is on it is there on the next machine",
  async () => {
    expect(MOUNTING).toContain("mkfs.ext4");
    const image = join(folder, "volume");
    const first = await start("first");
    await first.attachVolume(VOLUME, image, 1);
    await first.boot(MOUNTING);
    await ask(first, "echo identity > /var/lib/sallyport/key");
    expect(await ask(first, "stat -f -c %T /var/lib/sallyport")).toBe("ext2/ext3");
    await first.detachVolume(VOLUME);
    expect(await ask(first, "mountpoint /var/lib/sallyport; ls /dev/disk/by-id")).toBe(
      "/var/lib/sallyport is not a mountpoint",
    );

    const second = await start("second");
    await second.attachVolume(VOLUME, image, 1);
    await second.boot(MOUNTING);
    expect(await ask(second, "cat /var/lib/sallyport/key")).toBe("identity");
  },
);

testAsRoot("when its programs are killed, nothing of it is left: no mount, no loop device", async () => {
  const image = join(folder, "volume");
  const machine = await start("one");
  await machine.attachVolume(VOLUME, image, 1);
  await machine.boot(MOUNTING);
  const devices = () => spawnSync("losetup", ["-nO", "NAME", "-j", image], { encoding: "utf8" }).stdout;
  expect(devices()).toMatch(/^\/dev\/loop/);
  machine.stop();
  await processes.stopAll();
  expect(devices()).toBe("");
});

testAsRoot("user data that fails is an error with its last words", async () => {
  const machine = await start("one");
  await expect(machine.boot("#!/bin/sh\necho no luck >&2\nexit 3\n")).rejects.toThrow(
    /^the user data of one failed \(3\); its last words:\n {2}no luck$/,
  );
  await expect(machine.boot("#cloud-config\n")).rejects.toThrow("the user data of one is no script");
  await expect(machine.boot("#!/bin/sh\nsystemctl enable --now nothing.service\n")).rejects.toThrow(
    "Failed to enable unit: nothing.service does not exist.",
  );
});

describe("systemctl on it", () => {
  const unit = (name: string, lines: string) =>
    `printf '[Service]\\n${lines}\\n' > /etc/systemd/system/${name}.service`;

  testAsRoot("starts, stops and starts again, and returns when it is done", async () => {
    const machine = await start("one");
    const said = await ask(
      machine,
      [
        unit("sleeper", "ExecStart=/bin/sleep 86399"),
        "systemctl daemon-reload",
        "systemctl is-active sleeper.service; echo $?",
        "systemctl enable --now sleeper.service; systemctl is-active sleeper.service",
        "sleep 0.1; pgrep -fx '/bin/sleep 86399' > /tmp/sallyport-machine-$$; [ -s /tmp/sallyport-machine-$$ ] && echo runs",
        "rm /tmp/sallyport-machine-$$",
        "systemctl stop sleeper.service; pgrep -fx '/bin/sleep 86399' || echo stopped",
        "systemctl is-active sleeper.service",
        "systemctl start sleeper.service && systemctl is-active sleeper.service",
      ].join("\n"),
    );
    expect(said.split("\n")).toEqual(["inactive", "3", "active", "runs", "stopped", "inactive", "active"]);
  });

  testAsRoot("starts what ended again, where the unit says so; and waits for what runs once", async () => {
    const machine = await start("one");
    const said = await ask(
      machine,
      [
        "mkdir /opt/units; printf '#!/bin/sh\\necho $1 >> /opt/units/$1; exit $2\\n' > /opt/units/run; chmod 755 /opt/units/run",
        unit("again", "ExecStart=/opt/units/run again 1\\nRestart=on-failure\\nRestartSec=0.01"),
        unit("once", "ExecStart=/opt/units/run once 1\\nType=oneshot"),
        "systemctl start again.service; while [ $(wc -l < /opt/units/again) -lt 3 ]; do sleep 0.01; done 2> /dev/null; echo again",
        "systemctl start once.service; echo $?; cat /opt/units/once",
        "systemctl start nothing.service; echo $?",
        "systemctl mask once.service; echo $?",
      ].join("\n"),
    );
    expect(said.split("\n")).toEqual([
      "again",
      "Job for once.service failed because the control process exited with error code.",
      ...["1", "once"],
      ...["Failed to enable unit: nothing.service does not exist.", "1"],
      ...["systemctl mask is not in the lab", "1"],
    ]);
  });
});
