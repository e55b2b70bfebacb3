/**
 * Settings that come from a flag, a variable or the configuration file, in this order.
 *
 * Every layer is read before anything is said, so that all mistakes are named together, each by
 * the place where it was made.
 */
import type { z } from "zod";
import { UsageError } from "../base/errors.ts";

export interface Setting<T> {
  /** Such as "--port". */
  readonly flag: string;
  /** Such as "SALLYPORT_PORT". */
  readonly variable: string;
  /** Takes the text of a flag or variable, and the value of the file. */
  readonly schema: z.ZodType<T>;
  /** Completes "give …". */
  readonly remedy: string;
  /** Where only the variable may hold it, as it is a secret. */
  readonly variableSchema?: z.ZodType<T>;
  /** The value is never repeated in an error. */
  readonly secret?: boolean;
}

export type Settings = Readonly<Record<string, Setting<unknown>>>;

export type ValuesOf<S extends Settings> = {
  readonly [Name in keyof S]: (S[Name] extends Setting<infer T> ? T : never) | undefined;
};

export interface Layers {
  readonly flags: Readonly<Record<string, unknown>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The part of the configuration file that holds them, already checked. */
  readonly file: Readonly<Record<string, unknown>>;
}

/** The first layer that names a setting wins. Mistakes in the first two are added to `problems`. */
export function readSettings<S extends Settings>(
  settings: S,
  layers: Layers,
  problems: string[],
): ValuesOf<S> {
  const values = Object.entries(settings).map(([name, setting]) => [
    name,
    readSetting(setting, name, layers, problems),
  ]);
  return Object.fromEntries(values) as ValuesOf<S>;
}

/** What is wrong with one value, and what to do about it. */
export function problemOf(where: string, value: unknown, setting: Setting<unknown>): string {
  const shown = setting.secret === true ? "is not usable" : `is ${JSON.stringify(value)}`;
  return `${where} ${shown}: give ${setting.remedy}`;
}

/** @throws UsageError that names them all, one a line */
export function refuse(problems: readonly string[]): void {
  if (problems.length > 0) throw new UsageError("bad-settings", problems.join("\n"));
}

function readSetting(
  setting: Setting<unknown>,
  name: string,
  { flags, env, file }: Layers,
  problems: string[],
): unknown {
  const variable = env[setting.variable];
  if (flags[name] !== undefined) return parse(setting.flag, flags[name], setting, setting.schema, problems);
  if (variable !== undefined && variable !== "") {
    return parse(setting.variable, variable, setting, setting.variableSchema ?? setting.schema, problems);
  }
  // The mistakes of the file were named when it was read.
  return setting.schema.optional().safeParse(file[name]).data;
}

function parse(
  where: string,
  value: unknown,
  setting: Setting<unknown>,
  schema: z.ZodType,
  problems: string[],
): unknown {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  problems.push(problemOf(where, value, setting));
  return undefined;
}
