import { Resolver } from "node:dns/promises";
import { connect, type AddressInfo } from "node:net";
import fc from "fast-check";
import { IpPort, Ip } from "../../../agent/src/base/address.ts";
import { concat, fromHex, toHex, utf8 } from "../../../agent/src/base/bytes.ts";
import { openSocketIn } from "../../../agent/src/io/ffi/namespace-sockets.ts";
import { SOCK_DGRAM } from "../../../agent/src/io/ffi/libc.ts";
import { answerDns, type Names, serveDnsTcp, serveDnsUdp } from "../../../lab/services/dns.ts";
import { requires } from "../../skip.ts";

const HOSTS: Readonly<Record<string, readonly string[]>> = {
  "one.example.com": ["198.51.100.1"],
  "two.example.com": ["198.51.100.2", "2001:db8::2"],
  "many.example.com": Array.from({ length: 40 }, (_, i) => `198.51.100.${i + 1}`),
};
const names: Names = (name) => HOSTS[name];
const onLinux = requires("Linux", process.platform === "linux", "sockets are opened by Linux's C library");

/** id 0x1234, recursion desired, one question of this type. */
function ask(name: string, type: number): Uint8Array {
  const labels = name.split(".").map((label) => concat(Uint8Array.of(label.length), utf8(label)));
  return concat(fromHex("123401000001000000000000"), ...labels, Uint8Array.of(0, 0, type, 0, 1));
}

onLinux(
  "Node's own resolver gets addresses of either family, an empty answer, and that a name does not exist",
  async () => {
    const address = new IpPort(Ip.parse("127.0.0.1"), 0);
    const socket = await serveDnsUdp(openSocketIn({ netns: undefined, type: SOCK_DGRAM, address }), names);
    const resolver = new Resolver();
    resolver.setServers([`127.0.0.1:${socket.address().port}`]);
    expect(await resolver.resolve4("One.Example.com")).toEqual(["198.51.100.1"]);
    expect(await resolver.resolve6("two.example.com")).toEqual(["2001:db8::2"]);
    await expect(resolver.resolve6("one.example.com")).rejects.toMatchObject({ code: "ENODATA" });
    await expect(resolver.resolve4("none.example.com")).rejects.toMatchObject({ code: "ENOTFOUND" });
    await new Promise<void>((resolve) => socket.close(resolve));
  },
);

test("over TCP each message has its length in front, however it is cut", async () => {
  const server = serveDnsTcp(names);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
  const question = ask("one.example.com", 1);
  const twice = concat(...[question, question].flatMap((one) => [Uint8Array.of(0, one.length), one]));
  socket.write(twice.subarray(0, 40));
  await new Promise((resolve) => setImmediate(resolve));
  socket.write(twice.subarray(40));
  const answer = answerDns(question, names) ?? new Uint8Array();
  const framed = toHex(concat(Uint8Array.of(0, answer.length), answer));
  let got = "";
  await new Promise<void>((resolve) => {
    socket.on("data", (bytes) => {
      got += toHex(bytes);
      if (got.length >= 2 * framed.length) resolve();
    });
  });
  expect(got).toBe(framed + framed);
  socket.destroy();
  await new Promise<void>((resolve) => server.close(() => resolve()));
});

test("an answer fits into a datagram", () => {
  const answer = answerDns(ask("many.example.com", 1), names);
  expect(answer?.length).toBeLessThanOrEqual(512);
  expect(answer?.[7]).toBe(16);
});

test.each<[string, Uint8Array, string | undefined]>([
  ["nothing", new Uint8Array(), undefined],
  ["an answer", fromHex("123481000001000000000000"), undefined],
  ["a notification", fromHex("123420000001000000000000"), "123480040000000000000000"],
  ["no question", fromHex("123401000000000000000000"), "123480010000000000000000"],
  ["a name cut short", ask("one.example.com", 1).subarray(0, 20), "123480010000000000000000"],
])("to %s it says so, or nothing", (_, message, answer) => {
  const said = answerDns(message, names);
  expect(said === undefined ? undefined : toHex(said)).toBe(answer);
});

test("any bytes don't throw", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      answerDns(bytes, names);
      answerDns(concat(fromHex("123401000001000000000000"), bytes), names);
    }),
  );
});
