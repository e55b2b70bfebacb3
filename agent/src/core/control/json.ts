/** Reading JSON of another's making: whatever has the wrong type counts as absent. */
import { ParseError } from "../../base/errors.ts";
import { parseRfc3339 } from "../../base/rfc3339.ts";
import type { WallTime } from "../../base/time.ts";

export type JsonObject = Readonly<Record<string, unknown>>;

const NUMBER_OR_TEXT = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
/** 2^53 has 16 digits: shorter integers are always exact. */
const PERHAPS_INEXACT = /[[:,\s]-?\d{16}/;
const LONG_INTEGER = /^\d{16,}$/;
const ID_BITS = 52;

/** `undefined` for what is not JSON. Integers that a double can not hold exactly become texts of their digits. */
export function parseJson(text: string): unknown {
  const exact = PERHAPS_INEXACT.test(text)
    ? text.replace(NUMBER_OR_TEXT, (token) => (LONG_INTEGER.test(token) ? `"${token}"` : token))
    : text;
  try {
    return JSON.parse(exact) as unknown;
  } catch {
    return undefined;
  }
}

export function asObject(value: unknown): JsonObject | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as JsonObject)
    : undefined;
}

export function listAt(object: JsonObject, key: string): readonly unknown[] | undefined {
  const value = object[key];
  return Array.isArray(value) ? (value as readonly unknown[]) : undefined;
}

export function textAt(object: JsonObject, key: string): string {
  const value = object[key];
  return typeof value === "string" ? value : "";
}

export function textsAt(object: JsonObject, key: string): readonly string[] {
  return (listAt(object, key) ?? []).filter((item) => typeof item === "string");
}

export function numberAt(object: JsonObject, key: string): number | undefined {
  const value = object[key];
  return typeof value === "number" ? value : undefined;
}

export function booleanAt(object: JsonObject, key: string): boolean | undefined {
  const value = object[key];
  return typeof value === "boolean" ? value : undefined;
}

export function timeAt(object: JsonObject, key: string): WallTime | undefined {
  return parseRfc3339(textAt(object, key));
}

/**
 * A node's or user's ID. They are positive; some of Tailscale's hosted service exceed 2^53, and two of those would
 * become one as doubles. Such an ID becomes a negative number made of its low bits: distinct, and equal each time.
 */
export function idOf(value: unknown): number | undefined {
  if (typeof value === "number") return Number.isSafeInteger(value) ? value : undefined;
  if (typeof value !== "string" || !/^\d{1,20}$/.test(value)) return undefined;
  const exact = BigInt(value);
  return exact <= BigInt(Number.MAX_SAFE_INTEGER)
    ? Number(exact)
    : -1 - Number(BigInt.asUintN(ID_BITS, exact));
}

/** Applies a parser that throws ParseError (`NodePublic.parse`, `Prefix.parse`) to text that a peer sent. */
export function tryParse<T>(parse: (text: string) => T, text: string): T | undefined {
  try {
    return parse(text);
  } catch (error) {
    if (error instanceof ParseError) return undefined;
    throw error;
  }
}

export function parseEach<T>(parse: (text: string) => T, texts: readonly string[]): readonly T[] {
  return texts.map((text) => tryParse(parse, text)).filter((item) => item !== undefined);
}
