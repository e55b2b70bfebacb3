import type { IpPort } from "../../base/address.ts";
import type { Millis } from "../../base/time.ts";
import type { RegionId } from "../path/path.ts";
import type { Family } from "./plan.ts";
import type { Latencies, NetcheckReport, SeenAddress } from "./report.ts";

/** What the answers of one netcheck say so far. */
export class Findings {
  readonly #byFamily = { v4: new FamilyFindings(), v6: new FamilyFindings() };
  readonly #https = new Map<RegionId, Millis>();

  get udp(): boolean {
    return this.#byFamily.v4.answered || this.#byFamily.v6.answered;
  }

  get hasHttps(): boolean {
    return this.#https.size > 0;
  }

  /** By STUN; by HTTPS where there was no answer at all. */
  get latency(): Latencies {
    if (!this.udp) return this.#https;
    const best = new Map(this.#byFamily.v4.latency);
    for (const [region, latency] of this.#byFamily.v6.latency) keepBest(best, region, latency);
    return best;
  }

  addAnswer(region: RegionId, family: Family, server: IpPort, address: IpPort, latency: Millis): void {
    const findings = this.#byFamily[family];
    keepBest(findings.latency, region, latency);
    findings.addAddress(server, address);
  }

  addHttps(region: RegionId, latency: Millis): void {
    keepBest(this.#https, region, latency);
  }

  /** Whether an answer of this region in this family would tell anything new. */
  wouldLearn(region: RegionId, family: Family): boolean {
    const { v4, v6 } = this.#byFamily;
    if (!v4.latency.has(region) && !v6.latency.has(region)) return true;
    return family === "v6" ? !v6.answered : v4.mappingVaries === undefined;
  }

  toReport(preferredDerp: RegionId | undefined): NetcheckReport {
    const { v4, v6 } = this.#byFamily;
    return {
      udp: this.udp,
      ipv4: v4.answered,
      ipv6: v6.answered,
      mappingVariesByDestIp: v4.mappingVaries,
      preferredDerp,
      regionLatency: this.latency,
      regionV4Latency: v4.latency,
      regionV6Latency: v6.latency,
      globalV4: v4.first,
      globalV6: v6.first,
      globalV4Counters: v4.seen,
      globalV6Counters: v6.seen,
    };
  }
}

class FamilyFindings {
  readonly latency = new Map<RegionId, Millis>();
  /** What each server, by its IP address, saw first. */
  readonly #addressByServer = new Map<string, IpPort>();

  get answered(): boolean {
    return this.#addressByServer.size > 0;
  }

  get first(): IpPort | undefined {
    return this.seen[0]?.address;
  }

  /** Two answers of one server tell nothing: only another destination may get another mapping. */
  get mappingVaries(): boolean | undefined {
    return this.#addressByServer.size < 2 ? undefined : this.seen.length > 1;
  }

  get seen(): readonly SeenAddress[] {
    const byText = new Map<string, SeenAddress>();
    for (const address of this.#addressByServer.values()) {
      byText.set(address.text, { address, count: (byText.get(address.text)?.count ?? 0) + 1 });
    }
    return [...byText.values()];
  }

  addAddress(server: IpPort, address: IpPort): void {
    if (!this.#addressByServer.has(server.ip.text)) this.#addressByServer.set(server.ip.text, address);
  }
}

function keepBest(latencies: Map<RegionId, Millis>, region: RegionId, latency: Millis): void {
  const old = latencies.get(region);
  if (old === undefined || latency < old) latencies.set(region, latency);
}
