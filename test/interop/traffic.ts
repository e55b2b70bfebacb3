/** What tests expect of packets between two devices. */
import type { Device } from "./devices.ts";
import type { World } from "./world.ts";

const HTTP_PORT = 8080;

/** The kernel's ICMP echoes and TCP connections, both ways. */
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
