/** Packets between two devices: what flows, and what tests expect of it. */
import { join } from "node:path";
import type { LabProcess } from "../../lab/processes.ts";
import type { Device } from "./devices.ts";
import type { World } from "./world.ts";

const HTTP_PORT = 8080;
const BULK_PORT = 8081;
const STREAM_PORT = 9000;
const START_TIMEOUT_MS = 10_000;

/** ICMP echoes and TCP connections of the kernel, both ways. */
export async function expectTraffic(world: World, one: Device, other: Device): Promise<void> {
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const) {
    expect(await world.answersEcho(from.host, to.ip)).toBe(true);
    const server = await world.serveHttp(to.host, HTTP_PORT);
    const answer = await world.fetchHttp(from.host, `http://${to.ip}:${HTTP_PORT}/`);
    expect(answer).toContain(`hello ${from.ip}, this is ${to.ip}:${HTTP_PORT}`);
    await server.stop();
  }
}

/** As many bytes as fill the kernels' buffers and segments arrive whole, over IPv6 and TCP. */
export async function expectBulk(world: World, from: Device, to: Device, bytes: number): Promise<void> {
  const giver = world.start(from.host, program("give", String(BULK_PORT), String(bytes)));
  const hash = (await giver.readyLine(/^listening /, START_TIMEOUT_MS)).split(" ")[1];
  const { lines } = await world.run(to.host, program("take", from.ip6, String(BULK_PORT)));
  expect(lines).toEqual([`took ${hash}`]);
  await giver.stop();
}

export interface Stream {
  /** When each datagram arrived so far, by Date.now(). */
  arrivals(): readonly number[];
}

/** A datagram every 10 ms. Returns when the first has arrived. */
export async function startStream(world: World, from: Device, to: Device): Promise<Stream> {
  const receiver: LabProcess = world.start(to.host, program("receive", String(STREAM_PORT)));
  await receiver.readyLine(/^listening$/, START_TIMEOUT_MS);
  world.start(from.host, program("send", to.ip, String(STREAM_PORT)));
  await receiver.readyLine(/^\d/, START_TIMEOUT_MS);
  return { arrivals: () => receiver.lines.slice(1).map((line) => Number(line.split(" ")[1])) };
}

function program(command: string, ...args: readonly string[]) {
  return {
    name: `traffic-${command}`,
    command: [process.execPath, join(__dirname, "traffic.mjs"), command, ...args],
  };
}
