/**
 * The expressions of Terraform's JSON form, as far as synthesized stacks use them: templates, references, literals, lists and
 * calls. Anything else (operators, splats, conditionals, loops) is refused by name, because a lab that guesses proves nothing.
 */
import { ParseError } from "../agent/src/base/errors.ts";

export type Expression =
  | { readonly kind: "literal"; readonly value: string | number | boolean | null }
  | { readonly kind: "reference"; readonly path: readonly (string | number)[] }
  | { readonly kind: "call"; readonly name: string; readonly arguments: readonly Expression[] }
  | { readonly kind: "list"; readonly items: readonly Expression[] }
  | { readonly kind: "template"; readonly parts: readonly Expression[] };

/** Reads a string of the JSON: "text", "${reference}" or a mix; `$${` is a literal `${`. @throws ParseError */
export function parseTemplate(text: string): Expression {
  const parts: Expression[] = [];
  let literal = "";
  let at = 0;
  const flush = (): void => {
    if (literal !== "") parts.push({ kind: "literal", value: literal });
    literal = "";
  };
  while (at < text.length) {
    if (text.startsWith("$${", at) || text.startsWith("%%{", at)) {
      literal += text.slice(at + 1, at + 3);
      at += 3;
    } else if (text.startsWith("%{", at)) {
      throw new ParseError(
        "expression",
        `template directives are not understood: ${text.slice(at, at + 40)}`,
      );
    } else if (text.startsWith("${", at)) {
      flush();
      const reader = new Reader(text, at + 2);
      parts.push(reader.expression());
      reader.expect("}");
      at = reader.at;
    } else {
      literal += text[at++] ?? "";
    }
  }
  flush();
  const [only] = parts;
  if (only === undefined) return { kind: "literal", value: "" };
  return parts.length === 1 ? only : { kind: "template", parts };
}

class Reader {
  readonly text: string;
  at: number;

  constructor(text: string, at: number) {
    this.text = text;
    this.at = at;
  }

  expression(): Expression {
    this.skipSpace();
    const next = this.text[this.at] ?? "";
    if (next === '"') return parseTemplate(this.quoted());
    if (next === "[") return { kind: "list", items: this.items("[", "]") };
    if (/[-\d]/.test(next)) return { kind: "literal", value: Number(this.match(/-?\d+(\.\d+)?/y)) };
    const name = this.match(/[A-Za-z_][\w-]*/y);
    if (name === "true" || name === "false") return { kind: "literal", value: name === "true" };
    if (name === "null") return { kind: "literal", value: null };
    if (this.text[this.at] === "(") return { kind: "call", name, arguments: this.items("(", ")") };
    return this.reference(name);
  }

  expect(mark: string): void {
    this.skipSpace();
    if (!this.text.startsWith(mark, this.at)) this.refuse();
    this.at += mark.length;
  }

  private reference(head: string): Expression {
    const path: (string | number)[] = [head];
    for (;;) {
      if (this.text[this.at] === ".") {
        this.at++;
        path.push(this.match(/[A-Za-z_][\w-]*|\d+/y));
      } else if (this.text[this.at] === "[") {
        this.at++;
        const index = this.expression();
        if (
          index.kind !== "literal" ||
          (typeof index.value !== "string" && typeof index.value !== "number")
        ) {
          this.refuse();
        } else {
          path.push(index.value);
        }
        this.expect("]");
      } else {
        return {
          kind: "reference",
          path: path.map((step) => (/^\d+$/.test(`${step}`) ? Number(step) : step)),
        };
      }
    }
  }

  private items(open: string, close: string): Expression[] {
    this.expect(open);
    const items: Expression[] = [];
    this.skipSpace();
    while (!this.text.startsWith(close, this.at)) {
      items.push(this.expression());
      this.skipSpace();
      if (this.text[this.at] === ",") this.at++;
      else if (!this.text.startsWith(close, this.at)) this.refuse();
      this.skipSpace();
    }
    this.at += close.length;
    return items;
  }

  /** The inside of a quoted string, with its escapes undone and its `${…}` kept. */
  private quoted(): string {
    this.at++;
    let out = "";
    for (let depth = 0; this.at < this.text.length; this.at++) {
      const char = this.text[this.at] ?? "";
      if (char === '"' && depth === 0) {
        this.at++;
        return out;
      }
      if (this.text.startsWith("${", this.at)) depth++;
      if (char === "}" && depth > 0) depth--;
      if (char === "\\" && depth === 0) {
        const escaped = this.text[++this.at] ?? "";
        out += { n: "\n", t: "\t", r: "\r" }[escaped] ?? escaped;
      } else {
        out += char;
      }
    }
    return this.refuse();
  }

  private match(pattern: RegExp): string {
    pattern.lastIndex = this.at;
    const [found] = pattern.exec(this.text) ?? [];
    if (found === undefined) return this.refuse();
    this.at += found.length;
    return found;
  }

  private skipSpace(): void {
    while (/\s/.test(this.text[this.at] ?? "")) this.at++;
  }

  private refuse(): never {
    throw new ParseError("expression", `not understood at “${this.text.slice(this.at, this.at + 30)}”`);
  }
}
