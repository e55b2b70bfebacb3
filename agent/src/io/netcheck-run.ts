/** One network check of its own, for when no daemon is there to ask: a socket, the machine, the clock. */
import { OperationError } from "../base/errors.ts";
import { Netcheck, type NetcheckReport } from "../core/netcheck/netcheck.ts";
import type { DerpMap } from "../core/path/derp-map.ts";
import type { RegionId } from "../core/path/path.ts";
import { now, Wakeup } from "./clock.ts";
import { systemRandom } from "./random.ts";
import { measureRelay } from "./relay-client.ts";
import { resolveStunServers } from "./stun-addresses.ts";
import { bindUdp, type UdpSocket } from "./udp.ts";

export interface OwnNetcheck {
  readonly report: NetcheckReport;
  readonly buffers: UdpSocket["buffers"];
  readonly hasV6: boolean;
}

/** Takes at most some seconds. @throws OperationError where no socket can be had, or when it is interrupted */
export async function runNetcheck(derpMap: DerpMap, interrupt: AbortSignal): Promise<OwnNetcheck> {
  const servers = await resolveStunServers(derpMap);
  const udp = await bindUdp({ port: 0 });
  const check = new Netcheck(systemRandom);
  const wakeup = new Wakeup();
  const { buffers, hasV6 } = udp;
  try {
    const report = await new Promise<NetcheckReport>((resolve, reject) => {
      const stop = (): void => reject(new OperationError("interrupted", "the network check was interrupted"));
      if (interrupt.aborted) stop();
      interrupt.addEventListener("abort", stop, { once: true });
      const measure = async (region: RegionId): Promise<void> => {
        const found = derpMap.regions.get(region);
        const latency = found && (await measureRelay({ region: found }).catch(() => undefined));
        check.handleHttpsLatency(region, latency, now());
        drain();
      };
      const drain = (): void => {
        for (let out = check.pollTransmit(); out !== undefined; out = check.pollTransmit())
          udp.send(out.to, out.payload);
        for (const region of check.pollNeedHttps() ?? []) void measure(region);
        const done = check.pollReport();
        if (done !== undefined) resolve(done);
        wakeup.wakeAt(done === undefined ? check.pollTimeout() : undefined, () => {
          check.handleTimeout(now());
          drain();
        });
      };
      udp.onDatagram((from, payload) => {
        check.handleStun(from, payload, now());
        drain();
      });
      check.start(derpMap, servers, now(), { full: true });
      drain();
    });
    return { report, buffers, hasV6 };
  } finally {
    wakeup.cancel();
    await udp.close();
  }
}
