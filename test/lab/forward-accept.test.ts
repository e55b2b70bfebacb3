/**
 * The exit node beside other packet filters that drop what is forwarded: iptables as Docker sets it, on nftables and on its legacy
 * tables, and firewalld. They are named, changed only when asked, and left as they were.
 */
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { requires } from "../skip.ts";
import { canBuildLabs } from "./bundle.ts";
import { ExitWorld, NAT_PUBLIC, SERVER } from "./exit-world.ts";

const tools = join(__dirname, "../../.cache/firewalls");
const it = requires(
  "iptables and firewalld",
  canBuildLabs && existsSync(join(tools, "ready")),
  "they are not there: run test/lab/firewalls.sh .cache/firewalls as root on Debian",
);
const LIMIT_MS = 180_000;
const WAIT_MS = 30_000;

let world: ExitWorld;

beforeAll(async () => {
  if (!canBuildLabs || !existsSync(join(tools, "ready"))) return;
  world = await ExitWorld.open("d");
  await world.serve("internet", "tcp-echo", "8080");
  await world.serve("neighbour", "tcp-echo", "8080");
}, LIMIT_MS);

afterAll(async () => {
  await world?.close();
});

const ask = async (): Promise<string | undefined> =>
  (await world.probe("client", "tcp-ask", `${SERVER}:8080`))[0];
const blocked = (): Promise<string> =>
  world.until("a reason", () => world.reasons().find((one) => one.startsWith("forward-blocked")), WAIT_MS);
const carried = (): Promise<unknown> =>
  world.until(
    "carried traffic",
    async () => (await ask()) === NAT_PUBLIC && world.reasons().length === 0,
    WAIT_MS,
  );

/** With this iptables first on the path. */
const pathWith = (folder: string) => ({ PATH: `${folder}:${process.env["PATH"] ?? ""}` });

/** As Docker does when it starts. */
const DOCKER = "iptables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER";
const OURS = "-m comment --comment sallyport -j ACCEPT";

describe("iptables on nftables", () => {
  const env = pathWith(join(tools, "bin"));
  const iptables = (script: string): Promise<string> => world.sh(`export PATH=${env.PATH}; ${script}`);
  const rules = (): Promise<string> => iptables("iptables -S");

  it(
    "is named with the commands that help, and not changed",
    async () => {
      await iptables(DOCKER);
      const before = await rules();
      await world.forward({ env });
      const reason = await blocked();
      expect(reason).toContain("`sallyport set --forward-accept=docker-user`");
      expect(await ask()).toBe("silence");
      expect(await rules()).toBe(before);
      const commands = [...reason.matchAll(/`(iptables [^`]*)`/g)].map(([, command]) => command ?? "");
      expect(commands).toHaveLength(2);
      await iptables(commands.join("; "));
      await carried();
      // Rules of nftables' own would have made it refuse its table.
      expect(await rules()).toContain("-A DOCKER-USER -i tun0 -o zzz0 -j ACCEPT");
      await iptables("iptables -F DOCKER-USER");
    },
    LIMIT_MS,
  );

  it(
    "accepts when the agent's own user asks it to, again when others have removed that, and is as it was on stop",
    async () => {
      const before = await rules();
      await world.forward({ env, uid: 990, accept: ["docker-user"] });
      await carried();
      expect((await rules()).split("\n").filter((line) => line.includes(OURS))).toHaveLength(2);
      await iptables("iptables -F DOCKER-USER");
      await carried();
      await world.stopForwarding();
      expect(await rules()).toBe(before);
    },
    LIMIT_MS,
  );

  it(
    "accepts what goes to advertised networks, too",
    async () => {
      const before = await rules();
      await world.forward({ env, exit: false, advertised: ["10.0.5.0/24"], accept: ["docker-user"] });
      await world.until("no reason", () => world.reasons().length === 0, WAIT_MS);
      expect(await rules()).toContain("-A DOCKER-USER -i tun0 -o lan0 -m comment");
      expect(await world.probe("client", "tcp-ask", "10.0.5.2:8080")).toEqual(["10.0.5.1"]);
      await world.stopForwarding();
      expect(await rules()).toBe(before);
    },
    LIMIT_MS,
  );

  it(
    "is as it was after kill -9 and a run that does not ask",
    async () => {
      const before = await rules();
      await world.forward({ env, accept: ["docker-user"] });
      await carried();
      await world.killForwarding();
      expect(await rules()).toContain(OURS);
      await world.forward({ env });
      await blocked();
      expect(await rules()).toBe(before);
      await world.stopForwarding();
      await iptables("iptables -F; iptables -X; iptables -P FORWARD ACCEPT; nft flush ruleset");
    },
    LIMIT_MS,
  );
});

it(
  "iptables on its legacy tables accepts, too, when it is asked to",
  async () => {
    const env = pathWith(join(tools, "legacy"));
    const iptables = (script: string): Promise<string> => world.sh(`export PATH=${env.PATH}; ${script}`);
    await iptables(DOCKER);
    await world.forward({ env });
    expect(await ask()).toBe("silence");
    await world.forward({ env, accept: ["docker-user"] });
    await carried();
    await world.stopForwarding();
    expect(await iptables("iptables -S")).not.toContain("sallyport");
    await iptables("iptables -F; iptables -X; iptables -P FORWARD ACCEPT");
  },
  LIMIT_MS,
);

it(
  "firewalld is named, trusts the tunnel when it is asked to, and no longer on stop",
  async () => {
    const bus = join(world.folder, "bus");
    const env = { ...pathWith(join(tools, "bin")), DBUS_SYSTEM_BUS_ADDRESS: `unix:path=${bus}` };
    const firewall = (args: string): Promise<string> =>
      world.sh(`export DBUS_SYSTEM_BUS_ADDRESS=unix:path=${bus}; ${tools}/bin/firewall-cmd ${args} || true`);
    const config = join(world.folder, "bus.conf");
    writeFileSync(config, busConfig(bus));
    world.start("node", "dbus", [join(tools, "bin/dbus-daemon"), `--config-file=${config}`, "--nofork"]);
    const system = ["--system-config", join(world.folder, "firewalld")];
    world.start("node", "firewalld", [join(tools, "bin/firewalld"), ...system], env);
    await world.until("firewalld", async () => (await firewall("--state")).trim() === "running", 2 * WAIT_MS);

    await world.forward({ env });
    expect(await blocked()).toContain("`firewall-cmd --zone=trusted --add-interface=tun0`");
    expect(await ask()).toBe("silence");
    await world.forward({ env, accept: ["firewalld"] });
    await carried();
    expect(await firewall("--get-zone-of-interface=tun0")).toContain("trusted");
    await firewall("--reload");
    await carried();
    await world.stopForwarding();
    expect(await firewall("--get-zone-of-interface=tun0 2>&1")).toContain("no zone");
  },
  LIMIT_MS,
);

const busConfig = (path: string): string => `<!DOCTYPE busconfig PUBLIC
 "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=${path}</listen>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>
`;
