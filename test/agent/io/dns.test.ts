import { millis } from "../../../agent/src/base/time.ts";
import { resolveHost } from "../../../agent/src/io/dns.ts";

test.each([
  { host: "203.0.113.7", want: "203.0.113.7:443" },
  { host: "2001:db8::1", want: "[2001:db8::1]:443" },
  { host: "[2001:db8::1]", want: "[2001:db8::1]:443" },
])("the literal address $host needs no DNS", async ({ host, want }) => {
  expect((await resolveHost(host, 443)).map((address) => address.text)).toEqual([want]);
});

test("localhost is this machine", async () => {
  const addresses = await resolveHost("localhost", 80);
  expect(addresses.length).toBeGreaterThan(0);
  expect(addresses.every(({ ip, port }) => ip.isLoopback && port === 80)).toBe(true);
});

test("a name that does not exist is an error with the name and a remedy", async () => {
  await expect(resolveHost("no-such-host.invalid", 80, millis(1000))).rejects.toMatchObject({
    code: "dns",
    message: expect.stringMatching(/no-such-host\.invalid.*check the name/) as string,
  });
});

test("the time limit holds whatever the resolver does", async () => {
  await expect(resolveHost("slow-host.invalid", 80, millis(0))).rejects.toMatchObject({ code: "dns" });
});
