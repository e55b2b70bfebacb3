import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type AgentUserDataProps, renderAgentUserData } from "../../constructs/agent-user-data.ts";
import { packTar } from "../../bin/tar.mjs";
import { Machine } from "../../lab/machine/machine.ts";
import { Processes } from "../../lab/processes.ts";
import { exitNodeCloud } from "../lab/services/exit-node-cloud.ts";
import { isRoot, ServiceWorld } from "../lab/services/world.ts";
import { requires } from "../skip.ts";

const testAsRoot = requires("root", isRoot, "namespaces need Linux and root: run the tests as root");
const shellcheck = spawnSync("shellcheck", ["--version"]).status === 0;
const withShellcheck = requires("shellcheck", shellcheck, "install shellcheck (apt-get install shellcheck)");

const BUNDLE = {
  url: "https://bucket.s3.eu-west-1.amazonaws.com/agent.tar",
  signedFor: { region: "eu-west-1" },
};
const EVERYTHING: AgentUserDataProps = {
  ...{ port: 41642, hostname: "exit-1", advertiseExitNode: true, identityVolumeId: "vol-0123456789abcdef0" },
  relay: { address: "198.51.100.7", regionId: 900, regionCode: "fra" },
  coordination: { hostname: "198.51.100.7", joinParameterName: "/sallyport/x/join" },
  cell: { autoScalingGroup: "g", launchHook: "l", terminateHook: "t", ingressInterfaceId: "eni-1" },
  bundle: { ...BUNDLE, sha256: "0".repeat(64) },
};
const RELAY: AgentUserDataProps = {
  tunnel: false,
  relay: { address: "198.51.100.7", regionId: 900, regionCode: "fra" },
  bundle: { url: "https://example.com/agent.tar", sha256: "0".repeat(64) },
};
const SCRIPTS = { everything: EVERYTHING, "a relay": RELAY, "an image with the agent": {} };

test.each(Object.entries(SCRIPTS))(
  "bash reads the script of %s, and Terraform finds nothing of its own",
  (_, props) => {
    const text = renderAgentUserData(props);
    expect(spawnSync("bash", ["-n"], { input: text, encoding: "utf8" })).toMatchObject({
      status: 0,
      stderr: "",
    });
    expect(text).not.toMatch(/[$%]\{/);
  },
);

withShellcheck.each(Object.entries(SCRIPTS))(
  "shellcheck has nothing to say about the script of %s",
  (_, props) => {
    const { stdout } = spawnSync("shellcheck", ["-s", "bash", "-"], {
      input: renderAgentUserData(props),
      encoding: "utf8",
    });
    expect(stdout).toBe("");
  },
);

describe("booted on an instance of the lab, unchanged, with the role of its stack", () => {
  let world: ServiceWorld | undefined;
  let processes: Processes | undefined;
  afterEach(async () => {
    await processes?.stopAll();
    await world?.close();
    [processes, world] = [undefined, undefined];
  });

  /** An archive like the real one, whose agent says how it was started. */
  function archive(folder: string): string {
    const node = { content: Buffer.from(`#!/bin/sh\nexec ${process.execPath} "$@"\n`), mode: 0o755 };
    const [tar, tgz] = [join(folder, "node.tar"), join(folder, "node.tgz")];
    writeFileSync(tar, packTar({ "package/bin/node": node }));
    writeFileSync(tgz, spawnSync("gzip", ["-c", tar]).stdout);
    const agent = `
      import { readFileSync } from "node:fs";
      import { userInfo } from "node:os";
      const [, capabilities] = /CapEff:\\s*(\\w+)/.exec(readFileSync("/proc/self/status", "utf8"));
      const { port } = JSON.parse(readFileSync("/etc/sallyport/agent.json", "utf8"));
      console.log("started", process.argv[2], port, userInfo().username, capabilities);
      setInterval(() => {}, 1000);`;
    const file = join(folder, "agent.tar");
    const parts = {
      "sallyport.mjs": { content: Buffer.from(agent), mode: 0o644 },
      "node.tgz": { content: readFileSync(tgz), mode: 0o644 },
    };
    writeFileSync(file, packTar(parts));
    return file;
  }

  /** @param change of the archive between the deploy and the boot */
  async function boot(change: (file: string) => string | undefined, role = "exit-role") {
    world = new ServiceWorld();
    const file = archive(world.folder);
    const { cloud, resolve, synthesized } = exitNodeCloud(() => ({ port: 41642, keepIdentity: false }), file);
    const own = cloud.region.instances.get("i-own");
    if (own !== undefined) Object.assign(own, { role });
    const key = resolve(String(synthesized.resource("aws_s3_object")["key"]));
    const stored = change(file);
    const objects = new Map(stored === undefined ? [] : [[key, { file: stored, etag: key }]]);
    cloud.region.buckets.set("lab-bucket", { name: "lab-bucket", objects });
    const services = await world.serve(cloud);
    processes = new Processes("test", join(world.folder, "logs"));
    const lines: string[] = [];
    const machine = await Machine.start({
      ...{ name: "exit", netns: world.netns("instance"), folder: join(world.folder, "exit") },
      ...{ caFile: services.caFile, processes, say: (line: string) => lines.push(line) },
    });
    // Thirty tries, ten seconds apart, are the one thing that a test has no time for: there are the last two.
    const quick = [
      ["sleep", "exit 0"],
      ["seq", 'echo "$(($1 - 1)) $1"'],
    ].map(([name, text]) => `printf '#!/bin/sh\\n%s\\n' '${text}' > /usr/local/sbin/${name}`);
    const made = [...quick, "chmod 0755 /usr/local/sbin/sleep /usr/local/sbin/seq"].join("\n");
    await machine.start("quick", ["sh", "-ec", made]).exited;
    const failure = await machine
      .boot(resolve(String(synthesized.resource("aws_instance")["user_data"])))
      .then(
        () => undefined,
        (error: Error) => error.message,
      );
    return { world, machine, lines, failure, services };
  }

  testAsRoot(
    "the agent that was deployed is fetched with the role, and runs as its user with its rights",
    async () => {
      const { world, machine, lines, failure, services } = await boot((file) => file);
      expect([failure, lines]).toEqual([undefined, []]);
      expect(services.calls.map(({ action, outcome }) => `${action} ${outcome}`)).toEqual([
        "s3:GetObject ok",
      ]);
      const log = join(world.folder, "logs/exit-sallyport-agent.log");
      const said = await firstLine(log);
      // CAP_NET_BIND_SERVICE, CAP_NET_ADMIN and CAP_NET_RAW.
      expect(said).toBe("started daemon 41642 sallyport 0000000000003400");
      const asked = machine.start("look", [
        "sh",
        "-c",
        "stat -c '%a %U' /var/lib/sallyport /run/sallyport; hostname",
      ]);
      await asked.exited;
      expect(asked.lines).toEqual(["700 sallyport", "700 sallyport", "exit"]);
      for (const path of [
        "/opt/sallyport",
        "/etc/sallyport",
        "/etc/systemd/system/sallyport-agent.service",
      ]) {
        expect([path, existsSync(path)]).toEqual([path, false]);
      }
    },
  );

  testAsRoot("a damaged one is not started", async () => {
    const { failure, machine } = await boot((file) => {
      const bytes = readFileSync(file);
      bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
      writeFileSync(file, bytes);
      return file;
    });
    expect(failure).toContain("is not what was deployed: its SHA-256 is not");
    expect(existsSync(machine.file("opt/sallyport/current"))).toBe(false);
  });

  testAsRoot("a missing one is a failed boot that says what to look at", async () => {
    const { failure, lines } = await boot(() => undefined);
    expect(lines).toContain("sallyport: no agent yet (try 30)");
    expect(failure).toContain("is the object there, and may the role read it?");
  });

  testAsRoot(
    "with a role that may not fetch it, too; and the lab's log names what the policy lacks",
    async () => {
      const { failure, services } = await boot((file) => file, "other-role");
      expect(failure).toContain("is the object there, and may the role read it?");
      expect(services.calls).toHaveLength(2);
      expect(services.calls[0]).toMatchObject({
        outcome: "AccessDenied",
        message: expect.stringMatching(
          /other-role.* s3:GetObject on resource: arn:aws:s3:::lab-bucket\/sallyport\/agent/,
        ),
      });
    },
  );
});

/** What a program says first. */
async function firstLine(log: string): Promise<string> {
  for (let tries = 0; tries < 500; tries++) {
    const [line, more] = existsSync(log) ? readFileSync(log, "utf8").split("\n") : [];
    if (line !== undefined && more !== undefined) return line;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`nothing in ${log}`);
}
