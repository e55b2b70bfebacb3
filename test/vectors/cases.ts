/**
 * What counts as a case in a vector file, so that a case which no test reads can be found.
 *
 * A case is named by its place, such as "sequences/0/steps/1". Cases are the objects in lists, at any depth;
 * the members of a top-level object of objects; and whatever else stands at the top level. Keys with a capital
 * belong to Tailscale's own documents inside a case (Go's JSON): what lies below them is no case of its own.
 */

/** Keys that name or explain a case: reading one of them alone exercises nothing. */
const LABELS: ReadonlySet<string> = new Set(["name", "note", "source", "story", "kind", "proto"]);

export function isLabel(key: string): boolean {
  return LABELS.has(key);
}

/** The places of all cases of a vector file. */
export function casesOf(document: unknown): readonly string[] {
  if (Array.isArray(document)) return casesOfMember("", document);
  return members(document).flatMap(([key, value]) => casesOfMember(key, value));
}

export function place(parent: string, key: string): string {
  return parent === "" ? key : `${parent}/${key}`;
}

function casesOfMember(at: string, value: unknown): readonly string[] {
  if (Array.isArray(value)) return isList(value) ? casesInLists(at, value) : [at];
  const inside = members(value);
  if (inside.length === 0 || !inside.every(([, member]) => isObject(member)))
    return [at, ...casesBelow(at, value)];
  return inside.flatMap(([key, member]) => casesOfMember(place(at, key), member));
}

function casesInLists(at: string, list: readonly unknown[]): readonly string[] {
  return list.flatMap((element, i) =>
    isObject(element) ? [place(at, String(i)), ...casesBelow(place(at, String(i)), element)] : [],
  );
}

/** The cases in the lists inside a case. */
function casesBelow(at: string, value: unknown): readonly string[] {
  return members(value).flatMap(([key, member]) => {
    const memberAt = place(at, key);
    return Array.isArray(member) ? casesInLists(memberAt, member) : casesBelow(memberAt, member);
  });
}

function members(value: unknown): readonly [string, unknown][] {
  if (!isObject(value)) return [];
  return Object.entries(value).filter(([key]) => !isLabel(key) && !/^[A-Z]/.test(key));
}

/** Holds objects, so that its elements are the cases and not the list as a whole. */
function isList(value: readonly unknown[]): boolean {
  return value.some(isObject);
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
