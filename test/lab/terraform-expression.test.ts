import { parseTemplate } from "../../lab/terraform-expression.ts";

const reference = (...path: (string | number)[]): object => ({ kind: "reference", path });
const literal = (value: unknown): object => ({ kind: "literal", value });

test.each([
  ["plain text", literal("plain text")],
  ["", literal("")],
  ["${aws_vpc.main_1A.id}", reference("aws_vpc", "main_1A", "id")],
  ["${data.aws_zones.z.names[0]}", reference("data", "aws_zones", "z", "names", 0)],
  ["${aws_a.b-c.d.0.e}", reference("aws_a", "b-c", "d", 0, "e")],
  ['${aws_a.b.tags["Name"]}', reference("aws_a", "b", "tags", "Name")],
  ["$${kept}", literal("${kept}")],
  [
    "a ${aws_a.b.c} d",
    { kind: "template", parts: [literal("a "), reference("aws_a", "b", "c"), literal(" d")] },
  ],
  [
    '${f("a}\\n", 1, true, null)}',
    { kind: "call", name: "f", arguments: [literal("a}\n"), literal(1), literal(true), literal(null)] },
  ],
  [
    '${f([ "x" , aws_a.b.c ])}',
    {
      kind: "call",
      name: "f",
      arguments: [{ kind: "list", items: [literal("x"), reference("aws_a", "b", "c")] }],
    },
  ],
  [
    '${f("${aws_a.b.c}!")}',
    {
      kind: "call",
      name: "f",
      arguments: [{ kind: "template", parts: [reference("aws_a", "b", "c"), literal("!")] }],
    },
  ],
])("%s is understood", (text, expected) => {
  expect(parseTemplate(text)).toEqual(expected);
});

test.each([
  "${aws_a.b[*].id}",
  "${1 + 1}",
  "${a ? b : c}",
  "${f(1",
  '${"open',
  "${}",
  "%{ if x }a%{ endif }",
  "${{a = 1}}",
])("%s is refused", (text) => {
  expect(() => parseTemplate(text)).toThrow(/not understood/);
});
