import { Ip, IpPort } from "../../../../agent/src/base/address.ts";
import { checksum } from "../../../../agent/src/core/ip/checksum.ts";
import { isAbsent } from "../../../../agent/src/io/ffi/koffi.ts";
import {
  AF_INET,
  AF_INET6,
  errnoName,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  type Libc,
  loadLibc,
  O_RDWR,
  SO_REUSEADDR,
  SOCK_DGRAM,
  SOCK_RAW,
  SOL_SOCKET,
} from "../../../../agent/src/io/ffi/libc.ts";
import { requires } from "../../../skip.ts";

const loaded = loadLibc();
const present = !isAbsent(loaded);
const withLibc = requires("koffi", present, "the C library needs Linux and koffi's native file: npm install");
const asRoot = requires(
  "root",
  present && process.getuid?.() === 0,
  "raw sockets need Linux and root: run as root",
);

function libc(): Libc {
  if (isAbsent(loaded)) throw new Error(loaded.absent);
  return loaded;
}

const open: number[] = [];
afterEach(() => {
  for (const fd of open.splice(0)) libc().close(fd);
});

function opened(fd: number): number {
  if (fd < 0) throw new Error(errnoName(fd));
  open.push(fd);
  return fd;
}

/** A loopback UDP socket and its address. */
function udpSocket(address: string): number {
  const ip = Ip.parse(address);
  const fd = opened(libc().socket(ip.isV4 ? AF_INET : AF_INET6, SOCK_DGRAM, 0));
  expect(libc().bind(fd, new IpPort(ip, 0))).toBe(0);
  return fd;
}

withLibc("what the kernel refuses comes back as -errno", () => {
  expect(errnoName(libc().open("/no/such/file", O_RDWR))).toBe("ENOENT");
  expect(errnoName(libc().close(-1))).toBe("EBADF");
  expect(errnoName(libc().read(-1, new Uint8Array(1)))).toBe("EBADF");
  expect(errnoName(libc().socket(9999, SOCK_DGRAM, 0))).toBe("EAFNOSUPPORT");
  expect(errnoName(4095)).toBe("errno 4095");
});

withLibc("a socket with nothing to read says EAGAIN at once", () => {
  const fd = udpSocket("127.0.0.1");
  expect(errnoName(libc().read(fd, new Uint8Array(1)))).toBe("EAGAIN");
  expect(errnoName(libc().recvfrom(fd, new Uint8Array(1)) as number)).toBe("EAGAIN");
  expect(libc().setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, 1)).toBe(0);
});

withLibc("a watch that is closed lets the process go and calls back no more", async () => {
  const fd = udpSocket("127.0.0.1");
  const ready = jest.fn();
  const watch = libc().watchReadable(fd, ready);
  watch.close();
  watch.close();
  await new Promise((resolve) => setImmediate(resolve));
  expect(ready).not.toHaveBeenCalled();
});

/** Sends one echo request and waits for its reply, as a pinger does. */
async function ping(family: number, protocol: number, requestType: number, to: Ip): Promise<IpPort> {
  const fd = opened(libc().socket(family, SOCK_RAW, protocol));
  const [high, low] = [process.pid >> 8, process.pid];
  const request = Uint8Array.of(requestType, 0, 0, 0, high, low, 0, 1);
  const sum = to.isV4 ? checksum(request) : 0; // the kernel writes ICMPv6's
  request.set([sum >> 8, sum], 2);
  const replyType = to.isV4 ? 0 : requestType + 1;
  const reply = new Promise<IpPort>((resolve) => {
    const watch = libc().watchReadable(fd, () => {
      const buffer = new Uint8Array(256);
      const got = libc().recvfrom(fd, buffer);
      if (typeof got === "number") return;
      const message = buffer.subarray(to.isV4 ? 20 : 0, got.length);
      if (message[0] !== replyType || message[4] !== (high & 0xff) || message[5] !== (low & 0xff)) return;
      watch.close();
      resolve(got.from);
    });
  });
  expect(libc().sendto(fd, request, new IpPort(to, 0))).toBe(request.length);
  return reply;
}

asRoot("a ping over a raw socket is answered: IPv4", async () => {
  const from = await ping(AF_INET, IPPROTO_ICMP, 8, Ip.parse("127.0.0.1"));
  expect(from.ip.text).toBe("127.0.0.1");
});

asRoot("a ping over a raw socket is answered: IPv6", async () => {
  const from = await ping(AF_INET6, IPPROTO_ICMPV6, 128, Ip.parse("::1"));
  expect(from.ip.text).toBe("::1");
});
