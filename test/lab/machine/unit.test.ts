import { agentUnits } from "../../../constructs/agent-units.ts";
import { parseUnit, unitScript } from "../../../lab/machine/unit.ts";

const [relay, agent] = agentUnits({ tunnel: true, server: "relay" });

test("the agent's own unit is read as systemd would", () => {
  expect(parseUnit("agent", agent?.text ?? "")).toEqual({
    command: ["/opt/sallyport/current/node", "/opt/sallyport/current/sallyport.mjs", "daemon"],
    ...{ user: "sallyport", group: "sallyport", stateDirectory: "sallyport", runtimeDirectory: "sallyport" },
    capabilities: ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE"],
    boundingSet: ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE"],
    ...{ environmentFile: "/etc/default/sallyport", openFiles: 65536, noNewPrivileges: true },
    ...{ isOneShot: false, restart: "always", restartAfterMs: 2000 },
  });
});

test("the relay's unit may bind a low port, and nothing else", () => {
  const script = unitScript(parseUnit("relay", relay?.text ?? ""));
  expect(script.split("\n").at(-1)).toBe(
    "exec setpriv --reuid=sallyport --regid=sallyport --init-groups --no-new-privs " +
      "--bounding-set=-all,+net_bind_service --inh-caps=-all,+net_bind_service --ambient-caps=-all,+net_bind_service " +
      "-- /opt/sallyport/current/node /opt/sallyport/current/sallyport.mjs relay",
  );
});

test.each<[string, string, RegExp]>([
  ["without a command", "[Service]\nUser=x\n", /^x\.service has no ExecStart$/],
  [
    "that gives a capability which its bounding set lacks",
    "[Service]\nExecStart=/bin/true\nAmbientCapabilities=CAP_NET_ADMIN\nCapabilityBoundingSet=CAP_NET_RAW\n",
    /^x\.service gives CAP_NET_ADMIN and its bounding set lacks it$/,
  ],
  [
    "that does more than the lab",
    "[Service]\nExecStart=/bin/true\nExecStartPre=/bin/false\n",
    /^x\.service: the lab does not do ExecStartPre$/,
  ],
  [
    "that is started again in a way that the lab does not know",
    "[Service]\nExecStart=/bin/true\nRestart=on-abort\n",
    /^x\.service: the lab does not do Restart=on-abort$/,
  ],
])("a unit %s is refused", (_, text, message) => {
  expect(() => parseUnit("x.service", text)).toThrow(message);
});

test("what is not said is not done: root, no folders, no restart", () => {
  expect(parseUnit("x.service", "[Service]\nExecStart=/bin/true\n")).toEqual({
    ...{ command: ["/bin/true"], user: "root", group: "root", capabilities: [], boundingSet: undefined },
    ...{ stateDirectory: undefined, runtimeDirectory: undefined, environmentFile: undefined },
    ...{ openFiles: undefined, noNewPrivileges: false, isOneShot: false, restart: "no", restartAfterMs: 100 },
  });
  expect(unitScript(parseUnit("x.service", "[Service]\nExecStart=/bin/true\n")).split("\n").at(-1)).toBe(
    "exec setpriv -- /bin/true",
  );
});
