/** Medians and their ranges, and the table they stand in. */

/** Of one kind of measurement: ms, MB. Undefined ones never happened. */
export type Samples = (number | undefined)[];

export interface Figure {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** How many times it happened, of how many. */
  readonly happened: number;
  readonly of: number;
}

/** Undefined when it never happened. */
export function figureOf(samples: Samples): Figure | undefined {
  const sorted = samples.filter((sample) => sample !== undefined).sort((a, b) => a - b);
  const [min, max] = [sorted[0], sorted.at(-1)];
  if (min === undefined || max === undefined) return undefined;
  const [low = min, high = min] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]];
  return { median: (low + high) / 2, min, max, happened: sorted.length, of: samples.length };
}

/** "13.2 [10.1–20.5]", with a count where it did not always happen; "–" where nothing was measured. */
export function formatSamples(samples: Samples): string {
  const figure = figureOf(samples);
  if (figure === undefined) return samples.length === 0 ? "–" : "never";
  const { median, min, max, happened, of } = figure;
  const count = happened === of ? "" : ` (${happened} of ${of})`;
  const range = of === 1 ? "" : ` [${round(min)}–${round(max)}]`;
  return `${round(median)}${range}${count}`;
}

/** Ours by theirs: below 1 is better, for times and memory alike. */
export function formatRatio(ours: Samples, theirs: Samples): string {
  const [own, other] = [figureOf(ours), figureOf(theirs)];
  return own === undefined || other === undefined ? "" : (own.median / other.median).toFixed(2);
}

/** Three digits, as many as such a figure is good for. */
const round = (value: number): string => value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);

/** A table in Markdown with its columns in line. The first row is its head. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? "").length), 3),
  );
  const line = (row: readonly string[]): string =>
    `| ${widths.map((width, column) => (row[column] ?? "").padEnd(width)).join(" | ")} |`;
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  const [head = [], ...body] = rows;
  return [line(head), rule, ...body.map(line)].join("\n");
}
