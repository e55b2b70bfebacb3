import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type AgentUserDataProps, renderAgentUserData } from "../../constructs/agent-user-data.ts";
import { packTar } from "../../bin/tar.mjs";
import { requires } from "../skip.ts";

const isRoot = process.platform === "linux" && process.getuid?.() === 0;
const testAsRoot = requires("root", isRoot, "namespaces need Linux and root: run the tests as root");
const shellcheck = spawnSync("shellcheck", ["--version"]).status === 0;
const withShellcheck = requires("shellcheck", shellcheck, "install shellcheck (apt-get install shellcheck)");

const BUNDLE = {
  url: "http://127.0.0.1:9000/bucket/agent.tar",
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

describe("booted in a namespace with a stand-in for S3 and the metadata service", () => {
  const netns = `spud${process.pid}`;
  let folder: string;
  let store: ChildProcess | undefined;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "sallyport-boot-"));
    if (!isRoot) return;
    for (const args of [
      `netns add ${netns}`,
      `-n ${netns} link set lo up`,
      `-n ${netns} addr add 169.254.169.254/32 dev lo`,
    ]) {
      spawnSync("ip", args.split(" "));
    }
  });
  afterEach(() => {
    store?.kill("SIGKILL");
    spawnSync("ip", ["netns", "del", netns]);
    rmSync(folder, { recursive: true });
  });

  async function serve(file: string): Promise<void> {
    const program = join(__dirname, "object-store.mjs");
    const started = spawn("ip", ["netns", "exec", netns, process.execPath, program, file]);
    store = started;
    await new Promise<void>((resolve, reject) => {
      started.stdout.once("data", () => resolve());
      started.stderr.on("data", (text) => reject(new Error(String(text))));
    });
  }

  /** An archive like the real one, whose Node.js is a script that says what it was asked to run. */
  function archive(): Uint8Array {
    const node = { content: Buffer.from("#!/bin/sh\necho started $2\n"), mode: 0o755 };
    const [tar, tgz] = [join(folder, "node.tar"), join(folder, "node.tgz")];
    writeFileSync(tar, packTar({ "package/bin/node": node }));
    writeFileSync(tgz, spawnSync("gzip", ["-c", tar]).stdout);
    return packTar({
      "sallyport.mjs": { content: Buffer.from("// the agent\n"), mode: 0o644 },
      "node.tgz": { content: readFileSync(tgz), mode: 0o644 },
    });
  }

  /** Runs the script with its folders moved, and stand-ins for what would change this machine. */
  function boot(sha256: string) {
    const [bin, at] = [join(folder, "bin"), (path: string) => join(folder, "root", path)];
    for (const path of [
      bin,
      at("etc/systemd/system"),
      at("opt"),
      at("usr/local/bin"),
      at("var/tmp"),
      at("var/lib"),
    ]) {
      mkdirSync(path, { recursive: true });
    }
    const unit = at("etc/systemd/system/sallyport-agent.service");
    const programs = {
      systemctl: `[ "$1" = enable ] || exit 0\n$(sed -n 's/^ExecStart=//p' ${unit})`,
      useradd: "exit 0",
      sleep: "exit 0",
    };
    for (const [name, text] of Object.entries(programs)) {
      writeFileSync(join(bin, name), `#!/bin/sh\n${text}\n`);
      chmodSync(join(bin, name), 0o755);
    }
    const script = renderAgentUserData({ bundle: { ...BUNDLE, sha256 } })
      .replaceAll(" -o sallyport -g sallyport", "")
      .replaceAll(/\/(etc|opt|var|usr\/local\/bin)\b(?=\/| |$)/gm, `${folder}/root/$1`);
    const file = join(folder, "user-data");
    writeFileSync(file, script);
    const env = { PATH: `${bin}:${process.env["PATH"] ?? ""}` };
    return spawnSync("ip", ["netns", "exec", netns, "bash", file], { encoding: "utf8", env });
  }

  const hashOf = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

  testAsRoot("the agent that was deployed is fetched with the role, and started", async () => {
    const bytes = archive();
    writeFileSync(join(folder, "agent.tar"), bytes);
    await serve(join(folder, "agent.tar"));
    const booted = boot(hashOf(bytes));
    expect(booted).toMatchObject({ status: 0, stdout: "started daemon\n", stderr: "" });
  });

  testAsRoot("a damaged one is not started", async () => {
    const bytes = archive();
    const hash = hashOf(bytes);
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
    writeFileSync(join(folder, "agent.tar"), bytes);
    await serve(join(folder, "agent.tar"));
    const booted = boot(hash);
    expect(booted).toMatchObject({ status: 1, stdout: "" });
    expect(booted.stderr).toContain("is not what was deployed: its SHA-256 is not");
    expect(existsSync(join(folder, "root/opt/sallyport/current"))).toBe(false);
  });

  testAsRoot("a missing one is a failed boot that says what to look at", async () => {
    await serve(join(folder, "nothing"));
    const booted = boot("0".repeat(64));
    expect(booted).toMatchObject({ status: 1, stdout: "" });
    expect(booted.stderr).toContain("no agent yet (try 30)");
    expect(booted.stderr).toContain("is the object there, and may the role read it?");
  });
});
