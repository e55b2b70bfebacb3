/** The steps of a scenario: each does something or waits until something is so, and says how that went. */
import type { Session } from "../session.ts";
import type { PeerJson } from "../stage.ts";
import { sleep } from "../system.ts";
import { askExit, useExitNode } from "./exit.ts";
import type { Step } from "./scenario.ts";

export interface StepResult {
  readonly text: string;
  readonly ok: boolean;
  readonly said: string;
  readonly tookMs: number;
}

type Expectation = Extract<Step, { readonly expect: string }>;

interface Verdict {
  readonly ok: boolean;
  readonly said: string;
}

/** What of a node must not change when its machine does. */
interface Identity {
  /** The machine that it was on. */
  readonly instance: string;
  readonly key: string;
  readonly ips: string;
  readonly ingress: string;
}

const DEFAULT_WITHIN_S = 30;
const POLL_MS = 200;

export class Steps {
  readonly #session: Session;
  readonly #say: (line: string) => void;
  /** Nodes as they were before the first of them failed, by their name in the lab. */
  readonly #before = new Map<string, Identity>();
  readonly #failedAt = new Map<string, number>();
  /** The last cut or its end. */
  #changed: { readonly what: string; readonly at: number } | undefined;
  /** In the tailnet, by the name in the lab. */
  readonly #names = new Map<string, string>();

  constructor(session: Session, say: (line: string) => void) {
    this.#session = session;
    this.#say = say;
  }

  /** Ends with the first that fails. */
  async run(steps: readonly Step[]): Promise<readonly StepResult[]> {
    const results: StepResult[] = [];
    for (const step of steps) {
      const start = performance.now();
      const verdict = await this.#step(step).catch((error: unknown) => ({
        ok: false,
        said: error instanceof Error ? error.message : String(error),
      }));
      const result = { text: textOf(step), ...verdict, tookMs: performance.now() - start };
      results.push(result);
      this.#say(
        `  ${result.ok ? "✓" : "✗"} ${result.text.padEnd(52)} ${(result.tookMs / 1000).toFixed(1)} s  ${result.said}`,
      );
      if (!result.ok) break;
    }
    return results;
  }

  async #step(step: Step): Promise<Verdict> {
    if ("expect" in step) return this.#expect(step);
    if ("run" in step) return this.#shell(step.on, step.run);
    if ("terminate" in step) return this.#terminate(step.terminate);
    if ("refresh" in step) return this.#refresh(step.refresh);
    if ("cut" in step) return this.#uplink(step.cut, step.only === "udp" ? "no-udp" : "down");
    return this.#uplink(step.mend, "up");
  }

  async #expect(step: Expectation): Promise<Verdict> {
    const limit = Number((step.within ?? `${DEFAULT_WITHIN_S}s`).slice(0, -1)) * 1000;
    if (step.mustFail === true) return this.#mustFail(step, limit);
    const [, key, value] = /^tag (\S+) = (.+)$/.exec(step.expect) ?? [];
    if (key !== undefined) return this.#until(limit, () => this.#tag(step, key, value ?? ""));
    const [, code] = /^relay = (.+)$/.exec(step.expect) ?? [];
    if (code !== undefined) return this.#staysRelayed(step, code);
    switch (step.expect) {
      case "direct":
        return this.#until(limit, () => this.#path(step));
      case "relay":
        return this.#staysRelayed(step);
      case "reachable":
        return this.#until(limit, () => this.#reaches(step));
      case "same node":
        return this.#until(limit, () => this.#same(step));
      case "blocked":
        await useExitNode(this.#session, step.from, await this.#nameOf(step.by ?? step.to ?? ""));
        return this.#stays(() => this.#exit(step, undefined));
      default:
        await useExitNode(this.#session, step.from, await this.#nameOf(step.by ?? step.to ?? ""));
        return this.#until(limit, () => this.#exit(step, step.expect.replace(/^exit address = /, "")));
    }
  }

  /** As it is said, within the limit, again and again: once alone may be the moment before what was broken shows. */
  async #mustFail(step: Expectation, limitMs: number): Promise<Verdict> {
    const { mustFail: _, ...claim } = step;
    const deadline = performance.now() + limitMs;
    for (let failed = 0; ;) {
      const { ok, said } = await this.#expect({ ...claim, within: MUST_FAIL_WITHIN });
      failed = ok ? 0 : failed + 1;
      if (failed === MUST_FAIL_LOOKS) return { ok: true, said: `as it must not: ${said}` };
      if (performance.now() > deadline) return { ok: false, said: `and yet: ${said}` };
    }
  }

  /** The packets of `from` keep the path in use, so that there is something to tell. */
  async #tag({ from, to = "" }: Expectation, key: string, wanted: string): Promise<Verdict> {
    await this.#reaches({ from, to, expect: "reachable" });
    const value = this.#instance(to).instance.tags[key];
    const changed = this.#changed;
    const after = changed === undefined ? "" : `, ${secondsSince(changed.at)} after “${changed.what}”`;
    return { ok: value === wanted, said: `${value ?? "no such tag"}${after}` };
  }

  /** One ping begins the search for a path; the status says where that led. */
  async #path({ from, to = "" }: Expectation): Promise<Verdict> {
    const name = await this.#nameOf(to);
    const { lines } = await this.#session.command(from, ["ping", "-c", "3", name]);
    const pong = lines.findLast((line) => line.startsWith("pong"));
    if (pong === undefined) return { ok: false, said: lines.at(-1) ?? "no answer" };
    const peer = await this.#peer(from, name);
    const direct = peer?.CurAddr !== undefined && peer.CurAddr !== "";
    const failed = this.#failedAt.get(to);
    const since = failed === undefined ? "" : `, ${secondsSince(failed)} after the failure`;
    const said = direct ? `direct ${peer?.CurAddr ?? ""}${since}` : `relay ${peer?.Relay ?? ""}`;
    return { ok: direct, said };
  }

  /** All ten pings of the command find no direct path, and yet they are answered. The first pong decides that it counts. */
  async #staysRelayed({ from, to = "", within }: Expectation, code?: string): Promise<Verdict> {
    const limit = Number((within ?? `${DEFAULT_WITHIN_S}s`).slice(0, -1)) * 1000;
    const name = await this.#nameOf(to);
    let pongs: readonly string[] = [];
    const answered = await this.#until(limit, async () => {
      const { lines } = await this.#session.command(from, ["ping", name]);
      pongs = lines.filter((line) => line.startsWith("pong"));
      return { ok: pongs.length > 0, said: lines.at(-1) ?? "no answer" };
    });
    if (!answered.ok) return answered;
    const ways = new Set(pongs.map((line) => / via (?:DERP\(([^)]*)\)|\S+)/.exec(line)?.[1] ?? "direct"));
    const direct = (await this.#peer(from, name))?.CurAddr ?? "";
    if (direct !== "" || ways.has("direct")) return { ok: false, said: `direct ${direct}` };
    const said = `relay ${[...ways].join(", ")}`;
    return { ok: code === undefined || (ways.size === 1 && ways.has(code)), said };
  }

  async #reaches({ from, to = "" }: Expectation): Promise<Verdict> {
    const address = (await this.#peer(from, await this.#nameOf(to)))?.TailscaleIPs?.find(
      (ip) => !ip.includes(":"),
    );
    if (address === undefined) return { ok: false, said: `${from} doesn't know ${to}` };
    const { code, lines } = await this.#session.probe(from, ["icmp", address]);
    return { ok: code === 0, said: lines.at(-1) ?? "" };
  }

  async #exit({ from, sourcePort }: Expectation, wanted: string | undefined): Promise<Verdict> {
    const seen = await askExit(this.#session, from, sourcePort);
    if (wanted === undefined) return { ok: seen === undefined, said: seen ?? "nothing came through" };
    const address = this.#addressNamed(wanted);
    return { ok: seen === address, said: `the internet sees ${seen ?? "nobody"}` };
  }

  async #same({ from, to = "" }: Expectation): Promise<Verdict> {
    const before = this.#before.get(to);
    if (before === undefined) return { ok: false, said: `nothing happened to ${to} yet` };
    const now = await this.#identity(from, before.key);
    const same = now !== undefined && now.key === before.key && now.ips === before.ips;
    const instance = this.#session.cloud.currentOf(to);
    if (instance === undefined) return { ok: false, said: "no replacement was launched" };
    if (instance.id === before.instance) return { ok: false, said: "it is still on the same machine" };
    const ingress = publicIpOf(instance) ?? "none";
    const kept = same && ingress === before.ingress;
    return {
      ok: kept,
      said: kept
        ? `same key, ${before.ips}, ingress ${ingress}`
        : `${now?.ips ?? "unknown"}, ingress ${ingress}`,
    };
  }

  async #identity(from: string, key: string): Promise<Pick<Identity, "key" | "ips"> | undefined> {
    const peers = (await this.#session.status(from)).Peer ?? {};
    const found = Object.entries(peers).find(([one]) => one === key);
    return found === undefined ? undefined : { key: found[0], ips: (found[1].TailscaleIPs ?? []).join(" ") };
  }

  async #terminate(name: string): Promise<Verdict> {
    const { instance, region } = this.#instance(name);
    await this.#remember(name);
    await region.terminateInstance(instance.id);
    return { ok: true, said: instance.id };
  }

  async #refresh(name: string): Promise<Verdict> {
    const { instance, region } = this.#instance(name);
    const group = instance.lifecycle?.groupName;
    if (group === undefined) return { ok: false, said: `${name} is in no group` };
    await this.#remember(name);
    return { ok: true, said: await region.startInstanceRefresh(group) };
  }

  /** Who it is, as the first client that knows it sees it. */
  async #remember(name: string): Promise<void> {
    const { instance } = this.#instance(name);
    const tailnet = await this.#nameOf(name);
    for (const { namespace } of this.#session.clients) {
      const peers = (await this.#session.status(namespace)).Peer ?? {};
      const found = Object.entries(peers).find(([, peer]) => peer.HostName === tailnet);
      if (found === undefined) continue;
      const [key, peer] = found;
      const ingress = publicIpOf(instance) ?? "none";
      const ips = (peer.TailscaleIPs ?? []).join(" ");
      this.#before.set(name, { instance: instance.id, key, ips, ingress });
      break;
    }
    this.#failedAt.set(name, performance.now());
  }

  async #shell(host: string, line: string): Promise<Verdict> {
    const namespace = this.#session.cloud.currentOf(host)?.namespace ?? host;
    const { code, lines } = await this.#session.exec(namespace, ["sh", "-c", line]);
    return { ok: code === 0, said: lines.at(-1) ?? "" };
  }

  async #uplink(host: string, state: "up" | "down" | "no-udp"): Promise<Verdict> {
    const { code, lines } = await this.#session.setUplink(host, state);
    this.#changed = { what: `${state === "up" ? "mend" : "cut"} ${host}`, at: performance.now() };
    return { ok: code === 0, said: lines.at(-1) ?? "" };
  }

  async #until(limitMs: number, look: () => Promise<Verdict>): Promise<Verdict> {
    const deadline = performance.now() + limitMs;
    for (;;) {
      const verdict = await look();
      if (verdict.ok || performance.now() > deadline) return verdict;
      await sleep(POLL_MS);
    }
  }

  /** Must be so each time. */
  async #stays(look: () => Promise<Verdict>): Promise<Verdict> {
    for (let i = 0; i < STEADY_LOOKS; i++) {
      const verdict = await look();
      if (!verdict.ok || i === STEADY_LOOKS - 1) return verdict;
    }
    return { ok: false, said: "" };
  }

  async #peer(from: string, name: string): Promise<PeerJson | undefined> {
    const { Peer } = await this.#session.status(from);
    return Object.values(Peer ?? {}).find((one) => one.HostName === name);
  }

  /** In the tailnet: what the agent on it says, or said before it failed. */
  async #nameOf(host: string): Promise<string> {
    const current = this.#session.cloud.currentOf(host);
    const said = current === undefined ? undefined : await this.#session.tailnetName(current.namespace);
    if (said !== undefined) this.#names.set(host, said);
    return said ?? this.#names.get(host) ?? host;
  }

  #instance(name: string) {
    const instance = this.#session.cloud.currentOf(name);
    const region = this.#session.cloud.regions.get(instance?.region ?? "");
    if (instance === undefined || region === undefined) throw new Error(`there is no instance ${name}`);
    return { instance, region };
  }

  #addressNamed(wanted: string): string {
    const { model } = this.#session.cloud.read;
    if (wanted === "nat-gateway") return model.natGateways[0]?.publicIp.text ?? "no NAT gateway";
    if (wanted !== "ingress") return wanted;
    return this.#session.cloud.instances.map(publicIpOf).find((ip) => ip !== undefined) ?? "no ingress";
  }
}

const STEADY_LOOKS = 3;
/** In a row; each is as long as the probe waits for an answer. */
const MUST_FAIL_LOOKS = 2;
const MUST_FAIL_WITHIN = "1s";

const secondsSince = (start: number): string => `${((performance.now() - start) / 1000).toFixed(1)} s`;

const publicIpOf = ({
  interfaces,
}: {
  readonly interfaces: readonly { readonly publicIp: string | undefined }[];
}) => interfaces.map(({ publicIp }) => publicIp).find((ip) => ip !== undefined);

function textOf(step: Step): string {
  if (!("expect" in step))
    return Object.entries(step)
      .map(([key, value]) => `${key} ${value}`)
      .join(" ");
  const { from, to, by, expect, sourcePort, mustFail } = step;
  const whom = [...(to === undefined ? [] : [`→ ${to}`]), ...(by === undefined ? [] : [`by ${by}`])];
  const port = sourcePort === undefined ? "" : ` (UDP port ${sourcePort})`;
  return `${from} ${whom.join(" ")}: ${mustFail === true ? "not " : ""}${expect}${port}`;
}
