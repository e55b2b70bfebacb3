import fc from "fast-check";
import { encodeQuestion, parseAnswer, recordType } from "../../../../agent/src/core/dns/message.ts";

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(" ", ""), "hex"));
const question = encodeQuestion(0x1234, "web.test", recordType.a) ?? new Uint8Array();

/** Header with one question and `answers` records, the question, then the records. */
const answer = (flags: string, answers: number, records: string): Uint8Array =>
  bytes(`1234 ${flags} 0001 000${answers} 0000 0000 03776562 0474657374 00 0001 0001 ${records}`);

test("a question is the name's labels, the type and the class", () => {
  expect(Buffer.from(question).toString("hex")).toBe(
    "1234010000010000000000000377656204746573740000010001".replaceAll(" ", ""),
  );
});

test("the addresses of an answer are found behind an alias", () => {
  const alias = "c00c 0005 0001 00000001 0004 01 61 c010";
  const address = "c026 0001 0001 00000001 0004 c6120132";
  expect(parseAnswer(answer("8180", 2, alias + address), question)).toEqual({
    id: 0x1234,
    kind: "addresses",
    addresses: [expect.objectContaining({ text: "198.18.1.50" })],
  });
});

test.each([
  ["8183", "no-such-name"],
  ["8182", "failed"],
  ["8180", "addresses"],
])("without records the flags %s say %s", (flags, kind) => {
  expect(parseAnswer(answer(flags, 0, ""), question)).toMatchObject({ kind, addresses: [] });
});

test("what answers another question, or is no answer, is malformed", () => {
  expect(parseAnswer(answer("0180", 0, ""), question)).toBe("malformed");
  const other = encodeQuestion(0x1234, "web.tesa", recordType.a) ?? new Uint8Array();
  expect(parseAnswer(answer("8180", 0, ""), other)).toBe("malformed");
});

test.each(["a..b", "x".repeat(64), `${"a.".repeat(130)}b`])("%s can not be asked for", (name) => {
  expect(encodeQuestion(1, name, recordType.aaaa)).toBeUndefined();
});

test("no bytes make it throw", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (tail) => {
      const head = answer("8180", 3, "");
      parseAnswer(Uint8Array.from([...head, ...tail]), question);
      parseAnswer(tail, question);
    }),
  );
});
