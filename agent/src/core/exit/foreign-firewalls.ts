/**
 * Whether another's packet filter drops what we forward. An accept of ours ends our chains only, so it can not undo that; what
 * can be done is to say which rule to add where.
 *
 * The rules are walked as a new connection from the tunnel to the egress would walk them, and as its answers would. A rule that
 * asks for anything else (a port, an address, a limit) matches some packets only: it decides nothing about all of them.
 */
import type { ExitReason } from "./reasons.ts";
import type { Way } from "./ways.ts";

export interface Forwarded {
  readonly tunnel: string;
  readonly ways: readonly Way[];
  readonly ownTable: string;
}

/** The devices between which it is forwarded. */
interface Ends {
  readonly tunnel: string;
  readonly egress: string;
}

/** Firewalls that can be told to accept what is forwarded: Docker's chain for rules of others, and firewalld's trusted zone. */
export const acceptingFirewalls = ["docker-user", "firewalld"] as const;
export type AcceptingFirewall = (typeof acceptingFirewalls)[number];

export interface ForeignBlock extends ExitReason {
  /** Whom to tell; `undefined` where only the operator can. */
  readonly firewall: AcceptingFirewall | undefined;
}

/** @param ruleset what `nft --json list ruleset` says; anything else finds nothing */
export function blockedForwarding(ruleset: string, forwarded: Forwarded): readonly ForeignBlock[] {
  const { tunnel, ways, ownTable } = forwarded;
  const tables = readRuleset(ruleset);
  const found = new Map<string, ForeignBlock>();
  for (const base of tables.bases) {
    if (base.table === ownTable && base.family === "inet") continue;
    for (const { device, isV4, what } of ways) {
      const key = `${keyOf(base.family, base.table, base.name)} ${device}`;
      if (found.has(key) || !sees(base.family, isV4)) continue;
      const out = verdictOf(tables, base, { from: tunnel, to: device, state: "new", isV4 });
      const back = verdictOf(tables, base, { from: device, to: tunnel, state: "established", isV4 });
      if (out === "drop" || back === "drop")
        found.set(key, reasonFor(tables, base, what, { tunnel, egress: device }));
    }
  }
  return [...found.values()];
}

interface Chain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly policy: string | undefined;
  readonly rules: readonly (readonly unknown[])[];
}

interface Ruleset {
  readonly chains: ReadonlyMap<string, Chain>;
  readonly bases: readonly Chain[];
}

interface Packet {
  readonly from: string;
  readonly to: string;
  readonly state: "new" | "established";
  readonly isV4: boolean;
}

type Json = Readonly<Record<string, unknown>>;
type Verdict = "accept" | "drop" | "return" | undefined;

/** Whether tables of the family see such packets. */
function sees(family: string, isV4: boolean): boolean {
  return family === "inet" || family === (isV4 ? "ip" : "ip6");
}

function readRuleset(text: string): Ruleset {
  const chains = new Map<string, Chain & { readonly rules: (readonly unknown[])[] }>();
  const bases: Chain[] = [];
  for (const item of itemsOf(text)) {
    const { chain, rule } = item;
    if (isJson(chain)) {
      const { family, table, name, hook, type, policy } = chain;
      const known = {
        family: str(family),
        table: str(table),
        name: str(name),
        policy: str(policy),
        rules: [],
      };
      chains.set(keyOf(known.family, known.table, known.name), known);
      if (hook === "forward" && type === "filter") bases.push(known);
    }
    if (isJson(rule) && Array.isArray(rule["expr"])) {
      chains
        .get(keyOf(str(rule["family"]), str(rule["table"]), str(rule["chain"])))
        ?.rules.push(rule["expr"]);
    }
  }
  return { chains, bases };
}

function itemsOf(text: string): readonly Json[] {
  try {
    const json: unknown = JSON.parse(text);
    const items = isJson(json) ? json["nftables"] : undefined;
    return Array.isArray(items) ? items.filter(isJson) : [];
  } catch {
    return [];
  }
}

function verdictOf(rules: Ruleset, base: Chain, packet: Packet): Verdict {
  const verdict = walk(rules, base, packet, 0);
  if (verdict === "accept" || verdict === "drop") return verdict;
  return base.policy === "drop" ? "drop" : "accept";
}

/** As deep as the kernel lets chains call each other. */
const DEEPEST = 16;

function walk(rules: Ruleset, chain: Chain, packet: Packet, depth: number): Verdict {
  if (depth > DEEPEST) return undefined;
  for (const expressions of chain.rules) {
    const { verdict, goes } = ruleVerdict(rules, chain, expressions, packet, depth);
    if (verdict === "accept" || verdict === "drop") return verdict;
    if (verdict === "return" || goes) return undefined;
  }
  return undefined;
}

const NOTHING = { verdict: undefined, goes: false } as const;

function ruleVerdict(
  rules: Ruleset,
  chain: Chain,
  expressions: readonly unknown[],
  packet: Packet,
  depth: number,
): { readonly verdict: Verdict; readonly goes: boolean } {
  // What iptables matches by its own modules is told by name only.
  let byState = false;
  for (const expression of expressions.filter(isJson)) {
    const module = isJson(expression["xt"]) ? str(expression["xt"]["name"]) : undefined;
    if (module === "comment") continue;
    if (module === "conntrack" || module === "state") {
      // Nearly always "established and related", where it accepts.
      if (packet.state !== "established") return NOTHING;
      byState = true;
    } else if (isJson(expression["match"])) {
      if (matches(expression["match"], packet) !== true) return NOTHING;
    } else if (isJson(expression["vmap"])) {
      const data = mapped(expression["vmap"], packet);
      return data === undefined ? NOTHING : ruleVerdict(rules, chain, [data], packet, depth);
    } else if ("accept" in expression) return { verdict: "accept", goes: false };
    else if ("drop" in expression || "reject" in expression)
      return byState ? NOTHING : { verdict: "drop", goes: false };
    else if ("return" in expression) return { verdict: "return", goes: false };
    else if (isJson(expression["jump"]) || isJson(expression["goto"])) {
      const goes = isJson(expression["goto"]);
      const target = (goes ? expression["goto"] : expression["jump"]) as Json;
      const next = rules.chains.get(keyOf(chain.family, chain.table, str(target["target"])));
      return { verdict: next === undefined ? undefined : walk(rules, next, packet, depth + 1), goes };
    } else if (!HARMLESS.some((name) => name in expression)) return NOTHING;
  }
  return NOTHING;
}

/** Statements that let every packet go on to the next one of the rule. */
const HARMLESS = ["counter", "log", "mangle", "notrack", "meta", "ct"];

/** `undefined`: it depends on what we do not know. */
function matches({ op, left, right }: Json, packet: Packet): boolean | undefined {
  const actual = fieldOf(left, packet);
  if (actual === undefined) return undefined;
  const wanted = valuesOf(right);
  if (wanted === undefined) return undefined;
  const has = wanted.some((value) => sameName(value, actual));
  return op === "!=" ? !has : has;
}

function fieldOf(left: unknown, { from, to, state, isV4 }: Packet): string | undefined {
  if (!isJson(left)) return undefined;
  const meta = isJson(left["meta"]) ? left["meta"]["key"] : undefined;
  if (meta === "iifname" || meta === "iif") return from;
  if (meta === "oifname" || meta === "oif") return to;
  if (meta === "nfproto") return isV4 ? "ipv4" : "ipv6";
  if (meta === "protocol") return isV4 ? "ip" : "ip6";
  const ct = isJson(left["ct"]) ? left["ct"]["key"] : undefined;
  return ct === "state" ? state : undefined;
}

function valuesOf(right: unknown): readonly string[] | undefined {
  if (typeof right === "string") return [right];
  const set = isJson(right) ? right["set"] : right;
  return Array.isArray(set) && set.every((value) => typeof value === "string") ? set : undefined;
}

/** "veth*" names all that begin so. */
function sameName(wanted: string, actual: string): boolean {
  return wanted.endsWith("*") ? actual.startsWith(wanted.slice(0, -1)) : wanted === actual;
}

function mapped({ key, data }: Json, packet: Packet): Json | undefined {
  const actual = fieldOf(key, packet);
  const set = isJson(data) ? data["set"] : undefined;
  if (actual === undefined || !Array.isArray(set)) return undefined;
  for (const pair of set) {
    if (!Array.isArray(pair)) continue;
    const [name, verdict]: unknown[] = pair;
    if (typeof name === "string" && sameName(name, actual) && isJson(verdict)) return verdict;
  }
  return undefined;
}

function reasonFor(rules: Ruleset, base: Chain, what: string, ends: Ends): ForeignBlock {
  const place = `the chain "${base.name}" of the table "${base.family} ${base.table}"`;
  const firewall = firewallOf(rules, base);
  const or = firewall === undefined ? "" : `, or ask for it: \`sallyport set --forward-accept=${firewall}\``;
  const text = `Another packet filter drops ${what} in ${place}: add ${remedyFor(rules, base, ends)}${or}.`;
  return { code: "forward-blocked", text, closesExit: false, firewall };
}

function firewallOf(rules: Ruleset, base: Chain): AcceptingFirewall | undefined {
  if (base.table === "firewalld") return "firewalld";
  const isIptables = base.family === "ip" && isOfIptables(base);
  return isIptables && hasChain(rules, base, "DOCKER-USER") ? "docker-user" : undefined;
}

/** It refuses a table in which there are rules that it would have written otherwise, so it has to write them itself. */
function isOfIptables({ family, table, name }: Chain): boolean {
  return (family === "ip" || family === "ip6") && table === "filter" && name === "FORWARD";
}

function hasChain(rules: Ruleset, { family, table }: Chain, name: string): boolean {
  return rules.chains.has(keyOf(family, table, name));
}

function remedyFor(rules: Ruleset, base: Chain, { tunnel, egress }: Ends): string {
  const has = (name: string): boolean => hasChain(rules, base, name);
  if (base.table === "firewalld") return `\`firewall-cmd --zone=trusted --add-interface=${tunnel}\``;
  if (["ufw-before-forward", "ufw-user-forward", "ufw6-before-forward"].some(has))
    return `\`ufw route allow in on ${tunnel} out on ${egress}\``;
  const ends = { tunnel, egress };
  const commands = isOfIptables(base)
    ? iptablesRules(base.family, has("DOCKER-USER") ? "DOCKER-USER" : base.name, ends)
    : allowingRules(base.family, base.table, base.name, ends).map((rule) => `nft '${rule}'`);
  return commands.map((command) => `\`${command}\``).join(" and ");
}

function iptablesRules(family: string, chain: string, ends: Ends): readonly string[] {
  const program = family === "ip6" ? "ip6tables" : "iptables";
  return acceptingMatches(ends).map((match) => `${program} -I ${chain} ${match} -j ACCEPT`);
}

/** What iptables is to accept: from the tunnel all that our own table lets out, to it answers only. */
export function acceptingMatches({ tunnel, egress }: Ends): readonly string[] {
  return [
    `-i ${tunnel} -o ${egress}`,
    `-i ${egress} -o ${tunnel} -m conntrack --ctstate RELATED,ESTABLISHED`,
  ];
}

/** Put before all others, so that they decide. */
function allowingRules(
  family: string,
  table: string,
  chain: string,
  { tunnel, egress }: Ends,
): readonly string[] {
  const insert = `insert rule ${family} ${table} ${chain}`;
  return [
    `${insert} iifname "${tunnel}" oifname "${egress}" counter accept`,
    `${insert} iifname "${egress}" oifname "${tunnel}" ct state established,related counter accept`,
  ];
}

function keyOf(family: string, table: string, chain: string): string {
  return `${family} ${table} ${chain}`;
}

function isJson(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function str(value: unknown): string {
  return typeof value === "string" ? value : "";
}
