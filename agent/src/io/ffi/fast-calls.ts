/**
 * The system calls of the fast path. Every argument is a number: descriptors, lengths, and addresses in memory
 * that lives as long as its caller. Nothing is allocated for a call.
 *
 * A call that fails returns `-errno`. None of them blocks, but `poll`.
 */
import { type Absent, isAbsent, type Koffi, loadKoffi } from "./koffi.ts";

export interface FastCalls {
  /** Where `bytes` lie in the address space. They must not move, be grown or be collected while it is used. */
  addressOf(bytes: Uint8Array): number;
  /**
   * Gives memory that is still all zeroes a second address below 2 GiB, and returns it; `undefined` where the
   * kernel will not. JavaScript has small integers up to there, which cross into C in half the time of other
   * numbers, and every packet takes a dozen. Whole pages only; end with `unmap`.
   */
  mapLow(bytes: Uint8Array): number | undefined;
  unmap(at: number, length: number): void;
  read(fd: number, at: number, length: number): number;
  write(fd: number, at: number, length: number): number;
  writev(fd: number, iovecs: number, count: number): number;
  sendmsg(fd: number, message: number): number;
  recvmmsg(fd: number, messages: number, count: number): number;
  /** Waits at most `timeout` milliseconds; everything in this process's other threads goes on. */
  poll(descriptors: number, count: number, timeout: number): number;
  setsockopt(fd: number, level: number, option: number, value: number): number;
  /** A counter that wakes whoever polls it; non-blocking. */
  eventfd(): number;
  close(fd: number): number;
}

/** From linux/eventfd.h and linux/socket.h. */
const EFD_NONBLOCK_CLOEXEC = 0o2004000;
const MSG_DONTWAIT = 0x40;
/** From linux/mman.h and linux/memfd.h. */
const PROT_READ_WRITE = 3;
const MAP_SHARED = 0x01;
const MAP_FIXED = 0x10;
const MAP_FIXED_NOREPLACE = 0x10_0000;
const MFD_CLOEXEC = 1;
/** Where to try: between the program with its heap and the limit. */
const LOW_ADDRESSES = [0x6000_0000, 0x5000_0000, 0x3000_0000, 0x2000_0000];
const LOW_LIMIT = 2 ** 31;
/** A peer that is gone must not end us. */
const MSG_NOSIGNAL = 0x4000;

let loaded: FastCalls | undefined;

/** Never throws. Absent without koffi and on systems other than 64-bit Linux. */
export function loadFastCalls(): FastCalls | Absent {
  if (process.platform !== "linux") return { absent: `the system is ${process.platform}, not Linux` };
  if (!["x64", "arm64", "riscv64"].includes(process.arch))
    return { absent: `no layouts for ${process.arch}` };
  const koffi = loadKoffi();
  if (isAbsent(koffi)) return koffi;
  loaded ??= bindCalls(koffi);
  return loaded;
}

function bindCalls(koffi: Koffi): FastCalls {
  const c = koffi.load(null);
  const { errno } = koffi;
  const addressOf = c.func("uint64_t memmove(void *to, const void *from, size_t length)");
  const read = c.func("intptr_t read(int fd, uint64_t at, size_t length)");
  const write = c.func("intptr_t write(int fd, uint64_t at, size_t length)");
  const writev = c.func("intptr_t writev(int fd, uint64_t iovecs, int count)");
  const sendmsg = c.func("intptr_t sendmsg(int fd, uint64_t message, int flags)");
  const recvmmsg = c.func(
    "int recvmmsg(int fd, uint64_t messages, uint32_t count, int flags, uint64_t timeout)",
  );
  const poll = c.func("int poll(uint64_t descriptors, unsigned long count, int timeout)");
  const setsockopt = c.func(
    "int setsockopt(int fd, int level, int option, const void *value, uint32_t length)",
  );
  const eventfd = c.func("int eventfd(uint32_t initial, int flags)");
  const close = c.func("int close(int fd)");
  const memfd = c.func("int memfd_create(const char *name, uint32_t flags)");
  const ftruncate = c.func("int ftruncate(int fd, int64_t length)");
  const mmap = c.func(
    "uint64_t mmap(uint64_t at, size_t length, int protection, int flags, int fd, int64_t offset)",
  );
  const munmap = c.func("int munmap(uint64_t at, size_t length)");
  const mapAt = (at: number, length: number, flags: number, fd: number): boolean =>
    Number(mmap(at, length, PROT_READ_WRITE, MAP_SHARED | flags, fd, 0)) === at;
  const mapBoth = (high: number, length: number, fd: number): number | undefined => {
    const low = LOW_ADDRESSES.find(
      (at) => at + length <= LOW_LIMIT && mapAt(at, length, MAP_FIXED_NOREPLACE, fd),
    );
    if (low === undefined) return undefined;
    if (mapAt(high, length, MAP_FIXED, fd)) return low;
    munmap(low, length);
    return undefined;
  };
  // Written out for each: a shared wrapper would be called with many shapes and not be inlined.
  return {
    addressOf: (bytes) => Number(addressOf(bytes, bytes, 0)),
    mapLow(bytes) {
      const fd = Number(memfd("sallyport", MFD_CLOEXEC));
      if (fd < 0) return undefined;
      const sized = Number(ftruncate(fd, bytes.length)) === 0;
      const low = sized ? mapBoth(Number(addressOf(bytes, bytes, 0)), bytes.length, fd) : undefined;
      close(fd);
      return low;
    },
    unmap: (at, length) => void munmap(at, length),
    read(fd, at, length) {
      const result = read(fd, at, length);
      return result < 0 ? -errno() : result;
    },
    write(fd, at, length) {
      const result = write(fd, at, length);
      return result < 0 ? -errno() : result;
    },
    writev(fd, iovecs, count) {
      const result = writev(fd, iovecs, count);
      return result < 0 ? -errno() : result;
    },
    sendmsg(fd, message) {
      const result = sendmsg(fd, message, MSG_DONTWAIT | MSG_NOSIGNAL);
      return result < 0 ? -errno() : result;
    },
    recvmmsg(fd, messages, count) {
      const result = recvmmsg(fd, messages, count, MSG_DONTWAIT, 0);
      return result < 0 ? -errno() : result;
    },
    poll(descriptors, count, timeout) {
      const result = poll(descriptors, count, timeout);
      return result < 0 ? -errno() : result;
    },
    setsockopt(fd, level, option, value) {
      const result = setsockopt(fd, level, option, Int32Array.of(value), Int32Array.BYTES_PER_ELEMENT);
      return result < 0 ? -errno() : result;
    },
    eventfd() {
      const result = eventfd(0, EFD_NONBLOCK_CLOEXEC);
      return result < 0 ? -errno() : result;
    },
    close(fd) {
      const result = close(fd);
      return result < 0 ? -errno() : result;
    },
  };
}
