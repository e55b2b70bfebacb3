import { execFileSync, spawnSync } from "node:child_process";
import { createSocket, type Socket } from "node:dgram";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Ip, IpPort } from "../../../agent/src/base/address.ts";
import { buildUdp } from "../../../agent/src/core/ip/build.ts";
import { destinationIp, parsePacket, payloadOf } from "../../../agent/src/core/ip/packet.ts";
import { openTun, type Tun } from "../../../agent/src/io/tun.ts";
import { requires } from "../../skip.ts";

const withTun = requires(
  "root",
  process.platform === "linux" && process.getuid?.() === 0 && existsSync("/dev/net/tun"),
  "a TUN device needs Linux, root and /dev/net/tun: run as root",
);

/** Of our own, so that several runs on one machine do not meet. */
const NAME = `spt-t${process.pid}`;
const NETWORK = `198.18.${process.pid % 256}`;
const HOST = Ip.parse(`${NETWORK}.1`);
const PEER = Ip.parse(`${NETWORK}.2`);

let tun: Tun | undefined;
let socket: Socket | undefined;

afterEach(async () => {
  socket?.close();
  await tun?.close();
  socket = tun = undefined;
});

async function openConfigured(): Promise<Tun> {
  const opened = await openTun({ name: NAME, mtu: 1280 });
  tun = opened;
  execFileSync("ip", ["link", "set", "dev", NAME, "up"]);
  execFileSync("ip", ["address", "add", `${HOST.text}/30`, "dev", NAME]);
  return opened;
}

async function bindUdp(): Promise<Socket> {
  const bound = createSocket("udp4");
  socket = bound;
  await new Promise<void>((resolve) => bound.bind(0, HOST.text, resolve));
  return bound;
}

withTun(
  "packets routed into the device come out of it, and what is written into it reaches sockets",
  async () => {
    const device = await openConfigured();
    const udp = await bindUdp();
    const wanted = 100;
    const ports: number[] = [];
    const batches: number[] = [];
    const all = new Promise<void>((resolve) =>
      device.onPackets((packets) => {
        batches.push(packets.length);
        for (const bytes of packets) {
          const packet = parsePacket(bytes);
          if (typeof packet === "string" || destinationIp(packet).text !== PEER.text) continue;
          ports.push(payloadOf(packet)[8] ?? -1);
          if (ports.length === wanted) resolve();
        }
      }),
    );
    for (let i = 0; i < wanted; i++) udp.send(Uint8Array.of(i), 9, PEER.text);
    await all;
    expect(ports).toEqual(Array.from({ length: wanted }, (_, i) => i));
    expect(Math.max(...batches)).toBeLessThanOrEqual(64);

    const arrived = new Promise<string>((resolve) =>
      udp.once("message", (message, from) =>
        resolve(`${message.toString()} from ${from.address}:${from.port}`),
      ),
    );
    const to = new IpPort(HOST, udp.address().port);
    const packet = buildUdp(new IpPort(PEER, 9), to, new TextEncoder().encode("hello"));
    const padded = new Uint8Array(packet.length + 8);
    padded.set(packet, 8);
    device.write(padded.subarray(8));
    expect(await arrived).toBe(`hello from ${PEER.text}:9`);
    expect(device.dropped).toBe(0);
  },
);

withTun("the device has the MTU that was asked for, and is gone soon after it is closed", async () => {
  const device = await openConfigured();
  device.onPackets(() => {});
  expect(execFileSync("ip", ["link", "show", "dev", NAME], { encoding: "utf8" })).toContain("mtu 1280");

  const start = performance.now();
  await device.close();
  await device.close();
  expect(performance.now() - start).toBeLessThan(300);
  expect(existsSync(`/sys/class/net/${NAME}`)).toBe(false);
  device.write(new Uint8Array(20));
});

withTun("a device that somebody deletes is reported once, and closing it does no harm", async () => {
  const device = await openConfigured();
  device.onPackets(() => {});
  const lost = new Promise<Error>((resolve) => device.onLost(resolve));
  execFileSync("ip", ["link", "delete", "dev", NAME]);
  expect(await lost).toMatchObject({ code: "tun-lost", message: expect.stringMatching(/restart/) as string });
  device.write(new Uint8Array(20));
  await device.close();
});

withTun.each([
  { how: "process.exit", last: "process.exit(7)", code: 7 },
  { how: "an error that nobody catches", last: "throw new Error('on purpose')", code: 1 },
  { how: "closing the device", last: "void tun.close()", code: 0 },
])("a process that reads a device ends at once by $how", ({ last, code }) => {
  const source = join(__dirname, "../../../agent/src/io/tun.ts");
  const program = `
    import { openTun } from ${JSON.stringify(source)};
    const tun = await openTun({ name: "${NAME}", mtu: 1280 });
    tun.onPackets(() => {});
    setTimeout(() => { ${last} }, 10);
  `;
  const { status } = spawnSync(
    process.execPath,
    ["--import", require.resolve("tsx"), "--input-type=module", "--eval", program],
    { cwd: __dirname, timeout: 8000 },
  );
  expect(status).toBe(code);
  expect(existsSync(`/sys/class/net/${NAME}`)).toBe(false);
});

withTun("what the kernel refuses is dropped and counted", async () => {
  const device = await openConfigured();
  device.write(new Uint8Array(3));
  device.write(new Uint8Array());
  expect(device.dropped).toBeGreaterThan(0);
});

withTun("a name in use, by a TUN or by another device, is refused with a remedy", async () => {
  await openConfigured();
  await expect(openTun({ name: NAME, mtu: 1280 })).rejects.toMatchObject({
    code: "tun-busy",
    message: `TUN device ${NAME} is in use by another program: stop it, or choose another name with --tun`,
  });
  await expect(openTun({ name: "lo", mtu: 1280 })).rejects.toMatchObject({ code: "tun-busy" });
});

withTun("an MTU out of range is refused and leaves no device", async () => {
  await expect(openTun({ name: NAME, mtu: 70_000 })).rejects.toMatchObject({ code: "tun-mtu" });
  expect(existsSync(`/sys/class/net/${NAME}`)).toBe(false);
});

withTun.each(["", "a-name-that-is-too-long", "a b", "a/b", "x%d"])(
  "%j is refused as a name",
  async (name) => {
    await expect(openTun({ name, mtu: 1280 })).rejects.toMatchObject({ code: "tun-name" });
  },
);

withTun("a machine without TUN is told how to go on", async () => {
  const devicePath = "/dev/net/no-such-tun";
  await expect(openTun({ name: NAME, mtu: 1280, devicePath })).rejects.toMatchObject({
    code: "tun-missing",
    message: expect.stringMatching(/modprobe tun.*--tun memory/) as string,
  });
});

test("without the C library the error says so, with the remedy", async () => {
  process.env["SALLYPORT_NO_FFI"] = "1";
  try {
    await expect(openTun({ name: NAME, mtu: 1280 })).rejects.toMatchObject({
      code: "tun-no-ffi",
      message: expect.stringMatching(/--tun memory/) as string,
    });
  } finally {
    delete process.env["SALLYPORT_NO_FFI"];
  }
});
