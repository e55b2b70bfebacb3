import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { METRICS } from "../../agent/src/health/metrics.ts";

const folder = join(__dirname, "../../examples/monitoring");
const read = (name: string) => readFileSync(join(folder, name), "utf8");

interface Panel {
  readonly id: number;
  readonly title: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets: readonly { readonly expr: string }[];
}
interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly for: string;
  readonly annotations: { readonly summary: string };
}

const dashboard = JSON.parse(read("grafana-dashboard.json")) as {
  panels: readonly Panel[];
  templating: { list: readonly { name: string; query: unknown }[] };
};
const rules = (parse(read("alerts.yml")) as { groups: readonly { rules: readonly Rule[] }[] }).groups.flatMap(
  (group) => group.rules,
);
const expressions = [
  ...rules.map(({ alert, expr }) => [alert, expr] as const),
  ...dashboard.panels.flatMap(({ title, targets }) => targets.map(({ expr }) => [title, expr] as const)),
];

const DEFINITIONS: Readonly<Record<string, { readonly labels: readonly string[]; readonly type: string }>> =
  METRICS;
/** Labels that Prometheus adds. */
const OWN_LABELS = ["instance", "job"];

test.each(expressions)("%s asks for metrics and labels that there are: %s", (_, expr) => {
  const names = [...expr.matchAll(/\b((?:sallyport|process)_\w+)(?:\{([^}]*)\})?/g)];
  if (!/\bup\{/.test(expr)) expect(names.length).toBeGreaterThan(0);
  for (const [, name = "", matchers = ""] of names) {
    expect(Object.keys(METRICS)).toContain(name);
    const labels = [...matchers.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)].map(([, label]) => label);
    for (const label of labels)
      expect([...OWN_LABELS, ...(DEFINITIONS[name]?.labels ?? [])]).toContain(label);
    // A counter alone only grows: what is asked for is its rate.
    if (DEFINITIONS[name]?.type === "counter") expect(expr).toMatch(new RegExp(`rate\\(${name}`));
  }
  expect(depthOf(expr)).toBe(0);
});

test("every metric of the agent is shown or watched", () => {
  const all = expressions.map(([, expr]) => expr).join(" ");
  expect(Object.keys(METRICS).filter((name) => !all.includes(name))).toEqual([]);
});

test("each alert has a name of its own, waits, and says what to do in one sentence", () => {
  expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length);
  for (const rule of rules) {
    expect(rule.for).toMatch(/^\d+m$/);
    expect(rule.annotations.summary.length).toBeGreaterThan(20);
  }
});

test("no panel lies on another", () => {
  const cells = dashboard.panels.flatMap(({ gridPos: { x, y, w, h } }) =>
    Array.from({ length: w * h }, (_, i) => `${x + (i % w)},${y + Math.floor(i / w)}`),
  );
  expect(new Set(cells).size).toBe(cells.length);
  expect(Math.max(...dashboard.panels.map(({ gridPos: { x, w } }) => x + w))).toBeLessThanOrEqual(24);
});

function depthOf(expr: string): number {
  return expr
    .split("")
    .reduce((depth, char) => depth + ("({[".includes(char) ? 1 : ")}]".includes(char) ? -1 : 0), 0);
}
