/**
 * Sends ICMP echo requests from inside a namespace and says when, on the clock that all processes share (nanoseconds).
 * It is started before anything is measured, so that its own start costs nothing.
 *
 *   prober once ADDRESS      a request at each SIGUSR2, again every second until it is answered
 *   prober stream ADDRESS    a request every 10 ms, until it is stopped
 *
 *   → "ready", "sent SEQUENCE NS", "reply SEQUENCE NS"
 */
import { Ip, IpPort } from "../agent/src/base/address.ts";
import { buildEcho, parseEcho } from "../agent/src/core/ip/icmp.ts";
import { parsePacket } from "../agent/src/core/ip/packet.ts";
import { isAbsent } from "../agent/src/io/ffi/koffi.ts";
import { AF_INET, IPPROTO_ICMP, loadLibc, SOCK_RAW } from "../agent/src/io/ffi/libc.ts";

const STREAM_EVERY_MS = 10;
const AGAIN_AFTER_MS = 1000;
/** So that the first request that counts is not the first that this process makes. */
const WARM_UP = 20;
const IP_HEADER = 20;
const DATA = new Uint8Array(32).fill(0x5a);

const [mode = "", address = ""] = process.argv.slice(2);
const to = Ip.parse(address);
const libc = loadLibc();
if (isAbsent(libc)) throw new Error(libc.absent);
const socket = libc.socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
if (socket < 0) throw new Error(`no raw socket: ${socket}`);
const identifier = process.pid & 0xffff;
const buffer = new Uint8Array(2048);
let sequence = 0;
let again: NodeJS.Timeout | undefined;

libc.watchReadable(socket, receive);
for (let i = 0; i < WARM_UP; i++) send(Ip.parse("127.0.0.1"), 0);
if (mode === "once") process.on("SIGUSR2", sendUntilAnswered);
else setInterval(() => say("sent", ++sequence, send(to, sequence)), STREAM_EVERY_MS);
setTimeout(() => process.stdout.write("ready\n"), 200);
setInterval(() => {}, 1 << 30);

function sendUntilAnswered(): void {
  clearTimeout(again);
  const number = ++sequence & 0xffff;
  const at = send(to, number);
  say("sent", number, at);
  again = setTimeout(sendUntilAnswered, AGAIN_AFTER_MS);
}

function send(target: Ip, number: number): bigint {
  if (isAbsent(libc)) return 0n;
  const message = { kind: "request", identifier, sequence: number & 0xffff, data: DATA } as const;
  const request = buildEcho(target, target, message).subarray(IP_HEADER);
  const at = process.hrtime.bigint();
  libc.sendto(socket, request, new IpPort(target, 0));
  return at;
}

function receive(): void {
  if (isAbsent(libc)) return;
  for (;;) {
    const got = libc.recvfrom(socket, buffer);
    if (typeof got === "number") return;
    const at = process.hrtime.bigint();
    const packet = parsePacket(buffer.slice(0, got.length));
    if (typeof packet === "string") continue;
    const echo = parseEcho(packet);
    if (typeof echo === "string" || echo.kind !== "reply" || echo.identifier !== identifier) continue;
    if (got.from.ip.text !== to.text) continue;
    clearTimeout(again);
    say("reply", echo.sequence, at);
  }
}

function say(what: string, number: number, at: bigint): void {
  process.stdout.write(`${what} ${number & 0xffff} ${at}\n`);
}
