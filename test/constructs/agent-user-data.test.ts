import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { agentConfigSchema, DEFAULT_CONFIG_PATH } from "../../agent/src/io/config.ts";
import {
  agentConfig,
  AGENT_CONFIG_PATH,
  type AgentUserDataProps,
  renderAgentUserData,
  USER_DATA_LIMIT_BYTES,
} from "../../constructs/agent-user-data.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sallyport-user-data-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Runs the script with its paths moved into `folder` and a `systemctl` that only says what it was asked. */
function run(props: AgentUserDataProps, unitIsThere: boolean) {
  const systemctl = join(folder, "systemctl");
  writeFileSync(systemctl, `#!/bin/sh\n[ "$1" = cat ] && exit ${unitIsThere ? 0 : 1}\necho "$@"\n`);
  chmodSync(systemctl, 0o755);
  const script = renderAgentUserData(props).replaceAll("/etc/sallyport", join(folder, "etc"));
  const done = spawnSync("bash", ["-c", script], {
    encoding: "utf8",
    env: { PATH: `${folder}:${process.env["PATH"] ?? ""}` },
  });
  const config = readFileSync(join(folder, "etc", "agent.json"), "utf8");
  return { ...done, config: JSON.parse(config) as unknown };
}

test("the instance gets the port it is told, and the default where it is told none", () => {
  expect(run({ port: 41642 }, true).config).toEqual({ port: 41642 });
  expect(run({}, true).config).toEqual({ port: 41641 });
});

test("server, name and offer are written as the agent's configuration", () => {
  const props = { loginServer: "https://198.51.100.10", hostname: "exit-1", advertiseExitNode: true };
  expect(run(props, true).config).toEqual({ port: 41641, ...props });
});

test("the agent looks for its configuration there, and knows every key in it", () => {
  expect(AGENT_CONFIG_PATH).toBe(DEFAULT_CONFIG_PATH);
  const everyProp: Required<AgentUserDataProps> = {
    port: 41642,
    tunnel: true,
    loginServer: "https://198.51.100.10",
    hostname: "exit-1",
    advertiseExitNode: true,
    authKeySource: "ssm:/a/key",
    egressMode: "split",
    egressAddresses: ["198.51.100.11"],
    bundle: { url: "https://example.com/a.tar", sha256: "0".repeat(64) },
    relay: {
      ...{ address: "198.51.100.7", hostname: "relay.example.com" },
      ...{ regionId: 900, regionCode: "fra", regionName: "Frankfurt" },
      acme: { termsAgreed: true, email: "admin@example.com", directory: "https://ca.example/dir" },
    },
    coordination: {
      ...{ hostname: "198.51.100.7", domain: "mesh.example", joinParameterName: "/a/join" },
      derpMap: "{}",
    },
    endpoint: "198.51.100.9:41642",
    healthCheckPort: 41640,
    healthTags: true,
    identityVolumeId: "vol-1",
    cell: { autoScalingGroup: "g", launchHook: "l", terminateHook: "t" },
  };
  const config = agentConfig(everyProp);
  expect(agentConfigSchema.safeParse(config)).toMatchObject({ success: true });
  expect(config).toMatchObject({
    port: 41642,
    endpoints: ["198.51.100.9:41642"],
    healthTags: "on",
    relay: { coordination: true, acme: true, acmeTermsAgreed: true },
    control: { domain: "mesh.example" },
  });
});

test("one writes the instance's health tags: the tunnel; without it the relay; without that the coordination server", () => {
  const relay = { address: "198.51.100.7", regionId: 900, regionCode: "fra" };
  const coordination = { hostname: "198.51.100.7" };
  const writers = (props: AgentUserDataProps) => {
    const config = agentConfig(props) as { relay?: object; control?: object };
    expect(agentConfigSchema.safeParse(config)).toMatchObject({ success: true });
    return [config.relay, config.control].map((part) => part !== undefined && "healthTags" in part);
  };
  expect(writers({ relay, coordination })).toEqual([false, false]);
  expect(writers({ tunnel: false, relay })).toEqual([true, false]);
  expect(writers({ tunnel: false, relay, coordination })).toEqual([true, false]);
  expect(writers({ tunnel: false, coordination })).toEqual([false, true]);
});

test("the agent that is on the image is started", () => {
  const { status, stdout } = run({}, true);
  expect(status).toBe(0);
  expect(stdout).toBe("enable --now sallyport-agent.service\n");
});

test("a relay that is on the image is started, alone or before the tunnel", () => {
  const relay = { address: "198.51.100.7", regionId: 900, regionCode: "fra" };
  expect(run({ tunnel: false, relay }, true).stdout).toBe("enable --now sallyport-relay.service\n");
  expect(run({ relay }, true).stdout).toBe("enable --now sallyport-relay.service sallyport-agent.service\n");
  const { status, stderr } = run({ tunnel: false, relay }, false);
  expect(status).toBe(1);
  expect(stderr).toContain("sallyport-relay.service is not on this image");
});

test("a node with two interfaces keeps its routes, also where the agent is on the image", () => {
  expect(renderAgentUserData({ egressMode: "split" })).toContain("ManageForeignRoutes=no");
  expect(renderAgentUserData({ egressMode: "direct" })).not.toContain("ManageForeignRoutes=no");
});

test.each<[string, AgentUserDataProps]>([
  ["coordination", { coordination: { hostname: "198.51.100.7" } }],
  ["cell", { cell: { autoScalingGroup: "g", launchHook: "l", terminateHook: "t" } }],
  ["identityVolumeId", { identityVolumeId: "vol-1" }],
])("%s needs the start-up of a bundle", (prop, props) => {
  expect(() => renderAgentUserData(props)).toThrow(`AgentUserData ${prop} needs bundle`);
});

test("an image without the agent is a failed boot that says what to do", () => {
  const { status, stderr } = run({}, false);
  expect(status).toBe(1);
  expect(stderr).toContain("install the agent, then run: systemctl enable --now sallyport-agent.service");
});

test("the same props give the same text, which is a shell script for cloud-init within EC2's limit", () => {
  const text = renderAgentUserData({ hostname: "a".repeat(63) });
  expect(text).toBe(renderAgentUserData({ hostname: "a".repeat(63) }));
  expect(text.startsWith("#!/bin/bash\n")).toBe(true);
  expect(text.length).toBeLessThan(USER_DATA_LIMIT_BYTES);
  expect(text).toContain(AGENT_CONFIG_PATH);
});

test("a text over EC2's limit is refused", () => {
  expect(() => renderAgentUserData({ loginServer: `https://${"a".repeat(USER_DATA_LIMIT_BYTES)}` })).toThrow(
    /user data is \d+ bytes and EC2 takes 16384/,
  );
});

test.each([0, 65536, NaN, 1.5])("port %p is refused", (port) => {
  expect(() => renderAgentUserData({ port })).toThrow("AgentUserData port");
});

test.each([
  "http://198.51.100.10",
  "198.51.100.10",
  "https://user:secret@control.example.com",
  "https://control.example.com/$(id)'",
  "https://a\nSALLYPORT_AGENT_JSON\nid",
])("the server %j is refused, and not repeated", (loginServer) => {
  expect(() => renderAgentUserData({ loginServer })).toThrow(
    /^AgentUserData loginServer is not a web address: give it as/,
  );
});

test.each(["", "-exit", "exit-", "exit node", "exit.example", "a".repeat(64)])(
  "the name %j is refused",
  (hostname) => {
    expect(() => renderAgentUserData({ hostname })).toThrow("AgentUserData hostname");
  },
);
