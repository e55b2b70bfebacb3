import { createSocket } from "node:dgram";
import { Ip, IpPort } from "../../../agent/src/base/address.ts";
import { isAbsent } from "../../../agent/src/io/ffi/koffi.ts";
import { loadLibc } from "../../../agent/src/io/ffi/libc.ts";
import { bindUdp, type UdpOptions, type UdpSocket } from "../../../agent/src/io/udp.ts";
import { requires } from "../../skip.ts";

const LOOPBACK: UdpOptions = { port: 0, addressV4: "127.0.0.1", addressV6: "::1" };
const open: { close(): unknown }[] = [];

async function bind(options: UdpOptions): Promise<UdpSocket> {
  const socket = await bindUdp(options);
  open.push(socket);
  return socket;
}

afterEach(async () => {
  delete process.env["SALLYPORT_NO_FFI"];
  for (const socket of open.splice(0)) await socket.close();
});

function nextDatagram(socket: UdpSocket): Promise<{ from: IpPort; payload: Uint8Array }> {
  return new Promise((resolve) => socket.onDatagram((from, payload) => resolve({ from, payload })));
}

const at = (address: string, socket: UdpSocket): IpPort => new IpPort(Ip.parse(address), socket.localPort);

describe.each([
  { way: "with the C library", noFfi: "0" },
  { way: "with Node alone", noFfi: "1" },
])("$way", ({ noFfi }) => {
  beforeEach(() => {
    process.env["SALLYPORT_NO_FFI"] = noFfi;
  });

  test("datagrams pass both ways, from the one port", async () => {
    const [a, b] = [await bind(LOOPBACK), await bind(LOOPBACK)];
    for (const address of a.hasV6 && b.hasV6 ? ["127.0.0.1", "::1"] : ["127.0.0.1"]) {
      const arrived = nextDatagram(b);
      a.send(at(address, b), Uint8Array.of(1, 2, 3));
      const { from, payload } = await arrived;
      expect(from.text).toBe(at(address, a).text);
      expect(Uint8Array.from(payload)).toEqual(Uint8Array.of(1, 2, 3));

      const answered = nextDatagram(a);
      b.send(from, new Uint8Array());
      expect((await answered).payload).toHaveLength(0);
    }
  });

  test("the same sender is the same object each time", async () => {
    const [a, b] = [await bind(LOOPBACK), await bind(LOOPBACK)];
    const senders: IpPort[] = [];
    for (let i = 0; i < 3; i++) {
      const arrived = nextDatagram(b);
      a.send(at("127.0.0.1", b), Uint8Array.of(i));
      senders.push((await arrived).from);
    }
    expect(new Set(senders).size).toBe(1);
  });

  test("the port asked for is the port, on both families; one in use is refused with the remedy", async () => {
    const first = await bind(LOOPBACK);
    await expect(bindUdp({ ...LOOPBACK, port: first.localPort })).rejects.toMatchObject({
      code: "udp-port-in-use",
      message: `UDP port ${first.localPort} is in use by another program: choose another with --port, or stop it`,
    });
    await first.close();
    expect((await bind({ ...LOOPBACK, port: first.localPort })).localPort).toBe(first.localPort);
  });

  test("no other program can share the port, even one that is ready to", async () => {
    const ours = await bind(LOOPBACK);
    const other = createSocket({ type: "udp4", reuseAddr: true });
    open.push({ close: () => other.close() });
    const outcome = await new Promise<string>((resolve) => {
      other.on("error", (error) => resolve(error.message));
      other.bind(ours.localPort, "127.0.0.1", () => resolve("shared"));
    });
    expect(outcome).toMatch(/EADDRINUSE/);
  });

  test("a port in use on IPv6 alone is refused too, and the IPv4 socket is given back", async () => {
    const holder = createSocket({ type: "udp6", ipv6Only: true });
    open.push({ close: () => holder.close() });
    await new Promise<void>((resolve) => holder.bind(0, "::1", resolve));
    const { port } = holder.address();
    await expect(bindUdp({ ...LOOPBACK, port })).rejects.toMatchObject({ code: "udp-port-in-use" });
    const { localPort } = await bind({ port, addressV4: "127.0.0.1" });
    expect(localPort).toBe(port);
  });

  test("by default it listens on every address, and takes IPv4 as IPv4", async () => {
    const [a, b] = [await bind({ port: 0 }), await bind({ port: 0 })];
    const arrived = nextDatagram(b);
    a.send(at("127.0.0.1", b), Uint8Array.of(1));
    expect((await arrived).from.text).toBe(at("127.0.0.1", a).text);
  });

  test("what can not be sent is reported with its destination, never thrown", async () => {
    const a = await bind({ port: 0, addressV4: "127.0.0.1" });
    const reports: (readonly [string, string])[] = [];
    const three = new Promise<void>((resolve) =>
      a.onError((to, code) => {
        if (reports.push([to.text, code]) === 3) resolve();
      }),
    );
    a.send(IpPort.parse("127.0.0.1:9"), new Uint8Array(65_530));
    a.send(IpPort.parse("[2001:db8::1]:9"), Uint8Array.of(1));
    a.send(IpPort.parse("127.0.0.1:0"), Uint8Array.of(1));
    expect(reports).toEqual([]);
    await three;
    expect(reports).toEqual(
      expect.arrayContaining([
        ["127.0.0.1:9", "EMSGSIZE"],
        ["[2001:db8::1]:9", "EAFNOSUPPORT"],
        ["127.0.0.1:0", "EINVAL"],
      ]),
    );
  });

  test("an address that is not this machine's is refused", async () => {
    await expect(bindUdp({ port: 0, addressV4: "203.0.113.7" })).rejects.toMatchObject({
      code: "udp-address",
    });
  });

  test("sending on a closed socket does nothing", async () => {
    const a = await bind(LOOPBACK);
    await a.close();
    a.send(IpPort.parse("127.0.0.1:9"), Uint8Array.of(1));
    await a.close();
  });
});

requires(
  "root",
  process.getuid?.() === 0 && !isAbsent(loadLibc()),
  "marking a socket needs Linux, root and koffi: run as root",
)("packets carry the mark that was asked for", async () => {
  expect((await bind({ ...LOOPBACK, mark: 0x80000 })).marked).toBe(true);
  expect((await bind(LOOPBACK)).marked).toBe(false);
});
