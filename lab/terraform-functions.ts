/** The Terraform functions that synthesized stacks use. https://developer.hashicorp.com/terraform/language/functions */
import { Ip, Prefix } from "../agent/src/base/address.ts";
import { ParseError } from "../agent/src/base/errors.ts";
import type { Value } from "./terraform-values.ts";

/** @throws ParseError naming the function when it is not one of these or its arguments do not fit */
export function callFunction(name: string, args: readonly Value[]): Value {
  const implementation = Object.hasOwn(FUNCTIONS, name) ? FUNCTIONS[name] : undefined;
  if (implementation === undefined)
    throw new ParseError("function", `the function ${name}() is not known to the lab`);
  return implementation(args);
}

const FUNCTIONS: Readonly<Record<string, (args: readonly Value[]) => Value>> = {
  cidrsubnet: ([prefix, newBits, number]) => cidrSubnet(text(prefix), count(newBits), count(number)),
  cidrhost: ([prefix, number]) => cidrHost(text(prefix), count(number)),
  join: ([separator, ...lists]) => lists.flatMap(list).map(text).join(text(separator)),
  split: ([separator, whole]) => text(whole).split(text(separator)),
  element: ([items, index]) => {
    const all = list(items);
    const found = all[count(index) % all.length];
    if (found === undefined) throw new ParseError("function", "element() of an empty list");
    return found;
  },
  sort: ([items]) => list(items).map(text).toSorted(byCodePoint),
  length: ([items]) => list(items).length,
  concat: (lists) => lists.flatMap(list),
  tolist: ([items]) => list(items),
  toset: ([items]) => [...new Set(list(items))],
  tostring: ([value]) => text(value),
  tonumber: ([value]) => number(text(value)),
  jsonencode: ([value]) => JSON.stringify(value),
  base64encode: ([value]) => Buffer.from(text(value)).toString("base64"),
  base64decode: ([value]) => base64Decoded(text(value)),
  replace: ([whole, from, to]) => replaced(text(whole), text(from), text(to)),
  lower: ([value]) => text(value).toLowerCase(),
  trimspace: ([value]) => text(value).trim(),
};

/** As Terraform does: not by the language. */
const byCodePoint = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

function cidrSubnet(prefix: string, newBits: number, number: number): string {
  const base = Prefix.parse(prefix);
  const bits = base.bits + newBits;
  if (number >= 2 ** newBits)
    throw new ParseError("function", `cidrsubnet(): ${prefix} has no subnet ${number} of /${bits}`);
  return Prefix.of(Ip.fromBytes(addAt(base.ip.bytes, BigInt(number), bits)), bits).text;
}

function cidrHost(prefix: string, number: number): string {
  const base = Prefix.parse(prefix);
  if (number >= 2 ** (base.ip.bytes.length * 8 - base.bits))
    throw new ParseError("function", `cidrhost(): ${prefix} has no address ${number}`);
  return Ip.fromBytes(addAt(base.ip.bytes, BigInt(number), base.ip.bytes.length * 8)).text;
}

function base64Decoded(encoded: string): string {
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(encoded))
    throw new ParseError("function", `base64decode(): “${encoded.slice(0, 30)}” is not base64`);
  return Buffer.from(encoded, "base64").toString("utf8");
}

/** Terraform takes what stands between slashes for a regular expression, in RE2's form. */
function replaced(whole: string, from: string, to: string): string {
  if (/^\/.+\/$/s.test(from))
    throw new ParseError("function", "replace() by a regular expression is not known to the lab");
  return whole.replaceAll(from, () => to);
}

function number(written: string): number {
  const value = written.trim() === "" ? Number.NaN : Number(written);
  if (Number.isFinite(value)) return value;
  throw new ParseError("function", `tonumber(): “${written}” is not a number`);
}

/** Adds `number` to an address, where `number` counts units of a /`bits` network. */
function addAt(address: Uint8Array, number: bigint, bits: number): Uint8Array {
  let sum = address.reduce((all, byte) => (all << 8n) | BigInt(byte), 0n);
  sum += number << BigInt(address.length * 8 - bits);
  return Uint8Array.from(address, (_, i) => Number((sum >> BigInt(8 * (address.length - 1 - i))) & 0xffn));
}

function text(value: Value | undefined): string {
  if (value === undefined || value === null || typeof value === "object") {
    throw new ParseError("function", "a function got no text where it needs one");
  }
  return String(value);
}

function count(value: Value | undefined): number {
  const number = Number(text(value));
  if (!Number.isInteger(number) || number < 0)
    throw new ParseError("function", `${number} is not a whole number`);
  return number;
}

function list(value: Value | undefined): readonly Value[] {
  if (!Array.isArray(value)) throw new ParseError("function", "a function got no list where it needs one");
  return value as readonly Value[];
}
