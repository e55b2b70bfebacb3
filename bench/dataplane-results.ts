/** What was measured so far: kept as JSON after each measurement, so that a run that is broken off has told what it knew. */
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { dirname } from "node:path";
import { formatRatio, formatSamples, formatTable, type Samples } from "./figures.ts";

export class Results {
  readonly #file: string;
  /** By section, by row, by contender. */
  readonly #sections = new Map<string, Map<string, Map<string, Samples>>>();

  constructor(file: string) {
    this.#file = file;
    mkdirSync(dirname(file), { recursive: true });
  }

  /** `undefined`: it was tried and did not work. */
  note(section: string, row: string, contender: string, value: number | undefined): void {
    const rows = this.#sections.get(section) ?? new Map<string, Map<string, Samples>>();
    const columns = rows.get(row) ?? new Map<string, Samples>();
    columns.set(contender, [...(columns.get(contender) ?? []), value]);
    this.#sections.set(section, rows.set(row, columns));
    writeFileSync(this.#file, `${JSON.stringify({ machine: machine(), ...this.#json() }, undefined, 2)}\n`);
  }

  /** Tables in Markdown, with the ratios of ours by theirs; among ours alone, of the others by the first. */
  report(): string {
    const tables = [...this.#sections].map(([section, rows]) => `## ${section}\n\n${tableOf(rows)}`);
    return [machine(), "Medians [lowest–highest].", ...tables, `As JSON in ${this.#file}`].join("\n\n");
  }

  #json(): object {
    const sections = [...this.#sections].map(([section, rows]) => [
      section,
      Object.fromEntries([...rows].map(([row, columns]) => [row, Object.fromEntries(columns)])),
    ]);
    return { sections: Object.fromEntries(sections) };
  }
}

function tableOf(rows: ReadonlyMap<string, ReadonlyMap<string, Samples>>): string {
  const names = [...new Set([...rows.values()].flatMap((columns) => [...columns.keys()]))];
  const ratios = ratiosOf(names);
  const head = ["", ...names, ...ratios.map(([one, other]) => `${one} / ${other}`)];
  const body = [...rows].map(([row, columns]) => [
    row,
    ...names.map((name) => formatSamples(columns.get(name) ?? [])),
    ...ratios.map(([one, other]) => formatRatio(columns.get(one) ?? [], columns.get(other) ?? [])),
  ]);
  return formatTable([head, ...body]);
}

function ratiosOf(names: readonly string[]): readonly (readonly [string, string])[] {
  const ours = names.filter((name) => name.startsWith(OUR_NAME));
  const theirs = names.filter((name) => !name.startsWith(OUR_NAME));
  if (ours.length > 0) return ours.flatMap((one) => theirs.map((other) => [one, other] as const));
  const [first = "", ...others] = theirs;
  return others.map((one) => [one, first]);
}

const OUR_NAME = "sallyport";

function machine(): string {
  const [processor] = cpus();
  const load = loadavg()[0]?.toFixed(1);
  const day = new Date().toISOString().slice(0, 10);
  return `${day}, ${cpus().length} × ${processor?.model ?? "unknown processor"}, load ${load}, Node ${process.version}`;
}
