import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { NetcheckReply } from "../../../agent/src/health/netcheck-json.ts";
import { startStunServer } from "../../../agent/src/io/stun-server.ts";
import { readTuning } from "../../../agent/src/io/tuning.ts";
import { emptyStatus, folder, run, withDaemon } from "./run.ts";

const reply: NetcheckReply = {
  report: {
    Now: "2026-11-22T09:03:46Z",
    ...{ UDP: true, IPv4: true, IPv6: false, OSHasIPv6: true, MappingVariesByDestIP: false },
    ...{ UPnP: null, PMP: null, PCP: null, PreferredDERP: 900, RegionLatency: { "900": 1_200_000 } },
    ...{ GlobalV4: "203.0.113.5:41641", GlobalV6: "", CaptivePortal: null },
  },
  regions: [{ id: 900, code: "nyc", name: "New York" }],
  buffers: { receive: 8_388_608, send: 4_194_304 },
};
const dataPlane = {
  ...{ Workers: 1, Aead: "openssl-raw", TunOffload: "tcp+udp", UdpSegmentation: true },
  ...{ UdpReceiveOffload: false, Fallbacks: ["SALLYPORT_NO_GRO is set"], Counters: {} },
};
const forwarding = {
  ...{ Open: true, Egress: "eth0", Ingress: "eth0", SeenEgress: "", SeenIngress: "", Proven: false },
  Reasons: [],
  Tuning: [
    { What: "tun0 txqueuelen", Was: "500", Is: "2000", Why: "a burst waits" },
    { What: "eth0 rx-udp-gro-forwarding", Was: "on", Is: "on", Why: "in bunches" },
  ],
};
const backend = {
  netcheck: () => Promise.resolve(reply),
  status: () => ({ ...emptyStatus, DataPlane: dataPlane, Forwarding: forwarding }),
};
const noDaemon = join(folder, "nobody.sock");

test("a running daemon is asked: its own port, and the region it calls home", async () => {
  const { code, stdout } = await withDaemon(backend, (socket) => run(["netcheck", "--socket", socket]));
  expect([code, stdout.split("\n")]).toEqual([
    0,
    [
      ...["", "Report:", "\t* Time: 2026-11-22 09:03:46Z", "\t* UDP: true"],
      ...["\t* IPv4: yes, 203.0.113.5:41641", "\t* IPv6: no, but OS has support"],
      ...["\t* MappingVariesByDestIP: false", "\t* PortMapping: not checked", "\t* Nearest DERP: New York"],
      ...["\t* DERP latency:", "\t\t- nyc: 1.2ms   (New York)", ""],
    ],
  ]);
});

test("--verbose says how packets are moved, with which buffers and settings", async () => {
  const { stdout } = await withDaemon(backend, (socket) =>
    run(["netcheck", "--verbose", "--socket", socket]),
  );
  expect(stdout).toContain("\t\t- nyc: 1.2ms   (derp900, New York)\n");
  expect(stdout).toContain(
    [
      "\t* Data plane: 1 worker",
      "\t\t- sealing (AEAD): openssl-raw",
      "\t\t- TUN offloads: tcp+udp",
      "\t\t- UDP segmentation (GSO): yes",
      "\t\t- UDP receive offload (GRO): no",
      "\t\t- SALLYPORT_NO_GRO is set",
      "\t* Socket buffers: receive 8388608 bytes, send 4194304 bytes",
    ].join("\n"),
  );
  const settings = Object.entries(readTuning()).map(([name, value]) => `\t\t- ${name} = ${value}\n`);
  expect(stdout).toContain(settings.join(""));
  const set = [
    "\t* Set for what is carried for others:",
    "\t\t- tun0 txqueuelen = 2000, was 500 (a burst waits)",
    "\t\t- eth0 rx-udp-gro-forwarding = on, as before (in bunches)",
  ];
  expect(stdout.split("\n").slice(-4)).toEqual([...set, ""]);
});

test("--json has Tailscale's fields, and with --verbose ours beside them", async () => {
  const ask = async (...flags: readonly string[]) =>
    JSON.parse(
      (await withDaemon(backend, (socket) => run(["netcheck", "--json", ...flags, "--socket", socket])))
        .stdout,
    ) as Record<string, unknown>;
  expect(await ask()).toEqual(reply.report);
  const verbose = await ask("--verbose");
  expect(verbose).toMatchObject({ ...reply.report, DataPlane: dataPlane, SocketBuffers: reply.buffers });
  expect(verbose["Tuning"]).toEqual(readTuning());
  expect(verbose["ForwardingTuning"]).toEqual(forwarding.Tuning);
});

test("without a daemon it measures by itself, with the relay map that it is given or was kept", async () => {
  const stun = await startStunServer({ port: 0, host: "127.0.0.1" });
  const node = { Name: "1a", RegionID: 901, HostName: "relay.example", IPv4: "127.0.0.1", IPv6: "none" };
  const regions = {
    901: { RegionID: 901, RegionCode: "lab", RegionName: "Lab", Nodes: [{ ...node, STUNPort: stun.port }] },
  };
  writeFileSync(join(folder, "relay-map.json"), JSON.stringify({ Regions: regions }));
  try {
    for (const place of [
      ["--derp-map", join(folder, "relay-map.json")],
      ["--state-dir", folder],
    ]) {
      const { code, stdout, stderr } = await run(["netcheck", "--verbose", ...place, "--socket", noDaemon]);
      expect([code, stderr]).toEqual([0, ""]);
      expect(stdout).toMatch(/\* UDP: true\n\t\* IPv4: yes, 127\.0\.0\.1:\d+\n/);
      expect(stdout).toMatch(/\* Nearest DERP: Lab\n\t\* DERP latency:\n\t\t- lab: \S+ +\(derp901, Lab\)\n/);
      expect(stdout).toMatch(
        /\* Data plane: no tunnel is up\n\t\* Socket buffers: receive \d+ bytes, send \d+ bytes\n/,
      );
    }
  } finally {
    await stun.close();
  }
});

test("with neither daemon nor map it says what to do", async () => {
  const { code, stderr } = await run(["netcheck", "--state-dir", join(folder, "none"), "--socket", noDaemon]);
  expect(code).toBe(1);
  expect(stderr).toMatch(
    /^no daemon is up and no relay map is in .*relay-map\.json: start .* or give --derp-map FILE\n$/,
  );
  writeFileSync(join(folder, "empty.json"), "{}");
  const empty = await run(["netcheck", "--derp-map", join(folder, "empty.json"), "--socket", noDaemon]);
  expect([empty.code, empty.stderr]).toEqual([
    1,
    expect.stringContaining("names no relay: give a relay map"),
  ]);
});
