/**
 * A small evaluator of IAM policies, for what our policies use: what would AWS answer to a request? After
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html and …_elements_condition.html
 */

export interface Request {
  readonly action: string;
  readonly resource: string;
  /** Context keys; several values as a list, an absent key not at all. */
  readonly context?: Readonly<Record<string, string | readonly string[]>>;
}

interface Statement {
  readonly Effect: "Allow" | "Deny";
  readonly Action: string | readonly string[];
  readonly Resource: string | readonly string[];
  readonly Condition?: Readonly<Record<string, Readonly<Record<string, string | readonly string[]>>>>;
}

export interface Policy {
  readonly Statement: readonly Statement[];
}

/** An explicit deny wins, then an allow, else it is denied. */
export function evaluate(policy: Policy, request: Request): "allowed" | "denied" {
  const fitting = policy.Statement.filter((statement) => applies(statement, request));
  if (fitting.some(({ Effect }) => Effect === "Deny")) return "denied";
  return fitting.some(({ Effect }) => Effect === "Allow") ? "allowed" : "denied";
}

function applies({ Action, Resource, Condition = {} }: Statement, request: Request): boolean {
  const { action, resource, context = {} } = request;
  if (!many(Action).some((one) => wildcard(one.toLowerCase(), action.toLowerCase()))) return false;
  const resources = many(Resource).map((one) => substitute(one, context));
  if (!resources.some((one) => one !== undefined && wildcard(one, resource))) return false;
  return Object.entries(Condition).every(([operator, keys]) =>
    Object.entries(keys).every(([key, values]) => holds(operator, context[key], many(values), context)),
  );
}

function holds(
  operator: string,
  given: string | readonly string[] | undefined,
  values: readonly string[],
  context: Readonly<Record<string, string | readonly string[]>>,
): boolean {
  // "Null": "false" wants the key to be there.
  if (operator === "Null") return (given === undefined) === (values[0] === "true");
  const [set, plain = operator] = operator.includes(":") ? operator.split(":") : [undefined, operator];
  const wanted = values.map((value) => substitute(value, context)).filter((value) => value !== undefined);
  const fits = (one: string): boolean => {
    if (plain === "StringEquals" || plain === "ArnEquals") return wanted.includes(one);
    if (plain === "StringLike" || plain === "ArnLike") return wanted.some((value) => wildcard(value, one));
    throw new Error(`the operator ${operator} is not known to this evaluator`);
  };
  const present = given === undefined ? [] : many(given);
  if (set === "ForAllValues") return present.every(fits); // true where there are none
  if (set === "ForAnyValue") return present.some(fits);
  return present.length > 0 && present.every(fits);
}

/** A variable that the request has no value for makes the whole value fit nothing. */
function substitute(
  text: string,
  context: Readonly<Record<string, string | readonly string[]>>,
): string | undefined {
  let missing = false;
  const result = text.replaceAll(/\$\{([^}]+)\}/g, (_, key: string) => {
    const value = context[key];
    if (typeof value === "string") return value;
    missing = true;
    return "";
  });
  return missing ? undefined : result;
}

function wildcard(pattern: string, text: string): boolean {
  const source = pattern
    .replaceAll(/[.+^${}()|[\]\\]/g, "\\$&")
    .replaceAll("*", ".*")
    .replaceAll("?", ".");
  return new RegExp(`^${source}$`, "s").test(text);
}

function many(value: string | readonly string[]): readonly string[] {
  return typeof value === "string" ? [value] : value;
}
