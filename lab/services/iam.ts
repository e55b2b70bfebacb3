/**
 * What would AWS answer to a request? An evaluator of IAM policies, for what identity policies of instances use. After
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html and …_elements_condition.html
 *
 * An element or operator that it does not know is an error: a lab that guesses proves nothing.
 */
import { UsageError } from "../../agent/src/base/errors.ts";
import { z } from "zod";

export interface Request {
  readonly action: string;
  readonly resource: string;
  /** Context keys, in any case; several values as a list, an absent key not at all. */
  readonly context?: Context;
}

export type Context = Readonly<Record<string, string | readonly string[] | undefined>>;

export type Answer = "allowed" | "denied" | "explicitly denied";

export type Policy = Readonly<z.infer<typeof POLICY>>;
type Statement = Policy["Statement"][number];

const TEXTS = z.union([z.string(), z.array(z.string())]);
const CONDITION = z.record(z.string(), z.record(z.string(), TEXTS));
const STATEMENT = z.strictObject({
  Sid: z.string().optional(),
  Effect: z.enum(["Allow", "Deny"]),
  Action: TEXTS.optional(),
  NotAction: TEXTS.optional(),
  Resource: TEXTS.optional(),
  NotResource: TEXTS.optional(),
  Condition: CONDITION.optional(),
});
const POLICY = z.strictObject({
  Version: z.string().optional(),
  Id: z.string().optional(),
  Statement: z.preprocess((given) => (Array.isArray(given) ? given : [given]), z.array(STATEMENT)),
});

/** @param owner whose policy it is, for errors. @throws UsageError that names what is wrong with it */
export function parsePolicy(json: string, owner: string): Policy {
  let document: unknown;
  try {
    document = JSON.parse(json);
  } catch {
    throw new UsageError("lab-policy", `the policy of ${owner} is not JSON`);
  }
  const { success, data, error } = POLICY.safeParse(document);
  if (!success) {
    const faults = error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
    throw new UsageError(
      "lab-policy",
      `the lab can not judge by the policy of ${owner}: ${faults.join("; ")}`,
    );
  }
  for (const { Condition = {} } of data.Statement) {
    for (const operator of Object.keys(Condition)) checkOperator(operator, owner);
  }
  return data;
}

/** An explicit deny wins, then an allow, else it is denied. */
export function evaluate(policies: readonly Policy[], request: Request): Answer {
  const context = new Keys(request.context ?? {});
  const fitting = policies
    .flatMap(({ Statement }) => Statement)
    .filter((statement) => applies(statement, request, context));
  if (fitting.some(({ Effect }) => Effect === "Deny")) return "explicitly denied";
  return fitting.some(({ Effect }) => Effect === "Allow") ? "allowed" : "denied";
}

/** The names of keys are the same in any case. */
class Keys {
  readonly #values: ReadonlyMap<string, string | readonly string[]>;

  constructor(context: Context) {
    const given = Object.entries(context).flatMap(([key, value]) =>
      value === undefined ? [] : [[key.toLowerCase(), value] as const],
    );
    this.#values = new Map(given);
  }

  get(key: string): string | readonly string[] | undefined {
    return this.#values.get(key.toLowerCase());
  }
}

function applies(statement: Statement, { action, resource }: Request, context: Keys): boolean {
  const { Action, NotAction, Resource, NotResource, Condition = {} } = statement;
  const isAction = (one: string) => wildcard(one.toLowerCase(), action.toLowerCase());
  const isResource = (one: string) => fits(one, context, (pattern) => wildcard(pattern, resource));
  if (Action !== undefined && !many(Action).some(isAction)) return false;
  if (NotAction !== undefined && many(NotAction).some(isAction)) return false;
  if (Resource !== undefined && !many(Resource).some(isResource)) return false;
  if (NotResource !== undefined && many(NotResource).some(isResource)) return false;
  if ((Action ?? NotAction) === undefined || (Resource ?? NotResource) === undefined) return false;
  return Object.entries(Condition).every(([operator, keys]) =>
    Object.entries(keys).every(([key, values]) => holds(operator, context.get(key), many(values), context)),
  );
}

type Match = (wanted: string, given: string) => boolean;

const MATCHES: Readonly<Record<string, Match>> = {
  StringEquals: (wanted, given) => literal(wanted) === given,
  StringEqualsIgnoreCase: (wanted, given) => literal(wanted).toLowerCase() === given.toLowerCase(),
  StringLike: wildcard,
  ArnEquals: arnLike,
  ArnLike: arnLike,
  Bool: (wanted, given) => wanted.toLowerCase() === given.toLowerCase(),
};

const NEGATED: Readonly<Record<string, Match>> = {
  StringNotEquals: (wanted, given) => literal(wanted) === given,
  StringNotEqualsIgnoreCase: (wanted, given) => literal(wanted).toLowerCase() === given.toLowerCase(),
  StringNotLike: wildcard,
  ArnNotEquals: arnLike,
  ArnNotLike: arnLike,
};

function holds(
  operator: string,
  given: string | readonly string[] | undefined,
  values: readonly string[],
  context: Keys,
): boolean {
  // "Null": "false" wants the key to be there.
  if (operator === "Null") return (given === undefined) === (values[0] === "true");
  const { set, name, ifExists } = partsOf(operator);
  if (given === undefined && ifExists) return true;
  const [match, negated] = [MATCHES[name] ?? NEGATED[name], name in NEGATED];
  if (match === undefined) throw unknownOperator(operator, "a role");
  const holdsFor = (one: string) =>
    values.some((value) => fits(value, context, (wanted) => match(wanted, one))) !== negated;
  const present = given === undefined ? [] : many(given);
  if (set === "ForAllValues") return present.every(holdsFor); // true where there are none
  if (set === "ForAnyValue") return present.some(holdsFor);
  // A key that is missing is not equal to anything.
  return present.length === 0 ? negated : present.every(holdsFor);
}

function partsOf(operator: string) {
  const [set, plain = operator] = operator.includes(":") ? operator.split(":") : [undefined, operator];
  return { set, name: plain.replace(/IfExists$/, ""), ifExists: plain.endsWith("IfExists") };
}

function checkOperator(operator: string, owner: string): void {
  const { set, name } = partsOf(operator);
  const isSet = set === undefined || set === "ForAllValues" || set === "ForAnyValue";
  if (operator !== "Null" && (!isSet || !(name in MATCHES || name in NEGATED))) {
    throw unknownOperator(operator, owner);
  }
}

function unknownOperator(operator: string, owner: string): UsageError {
  return new UsageError(
    "lab-policy",
    `the lab does not know the operator ${operator} in the policy of ${owner}`,
  );
}

/** A variable that the request has no value for makes the whole value fit nothing. */
function fits(value: string, context: Keys, test: (pattern: string) => boolean): boolean {
  let missing = false;
  const pattern = value.replaceAll(/\$\{([^}]*)\}/g, (_, variable: string) => {
    const [key = "", fallback] = variable.split(/\s*,\s*/);
    if (LITERALS.includes(key)) return ESCAPED[key] ?? key;
    const found = context.get(key) ?? fallback?.replaceAll("'", "");
    if (typeof found === "string") return found.replaceAll(/[*?]/g, (mark) => ESCAPED[mark] ?? mark);
    missing = true;
    return "";
  });
  return !missing && test(pattern);
}

/** `${*}` is a star that means itself, as is one in a variable's value. */
const LITERALS = ["*", "?", "$"];
const ESCAPED: Readonly<Record<string, string>> = { "*": "\u{E000}", "?": "\u{E001}" };

const literal = (pattern: string): string => pattern.replaceAll("\u{E000}", "*").replaceAll("\u{E001}", "?");

function wildcard(pattern: string, text: string): boolean {
  const source = pattern
    .replaceAll(/[.+^${}()|[\]\\]/g, "\\$&")
    .replaceAll("*", ".*")
    .replaceAll("?", ".")
    .replaceAll("\u{E000}", "\\*")
    .replaceAll("\u{E001}", "\\?");
  return new RegExp(`^${source}$`, "s").test(text);
}

/** Each of the six parts between colons fits by itself: a star does not reach into the next. */
function arnLike(pattern: string, arn: string): boolean {
  const [wanted, given] = [arnParts(pattern), arnParts(arn)];
  return wanted.length === given.length && wanted.every((part, i) => wildcard(part, given[i] ?? ""));
}

function arnParts(arn: string): readonly string[] {
  const parts = arn.split(":");
  return [...parts.slice(0, 5), parts.slice(5).join(":")];
}

function many(value: string | readonly string[]): readonly string[] {
  return typeof value === "string" ? [value] : value;
}
