import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hostsAddresses, readSystemDns } from "../../../agent/src/io/system-dns.ts";

const folder = mkdtempSync(join(tmpdir(), "sallyport-dns-"));
const file = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};
const none = join(folder, "none");

afterAll(() => rmSync(folder, { recursive: true }));

test("the servers are those of resolv.conf, without comments, zones and other keywords", () => {
  const resolvConf = file(
    "plain",
    "search lan # x\nnameserver 192.168.1.1 ; y\n#nameserver 9.9.9.9\nnameserver fe80::1%eth0\nnameserver ::1\n nameserver 2001:db8::1\n",
  );
  const { servers, resolved } = readSystemDns({ resolvConf, resolvedConf: none });
  expect(servers.map(({ text }) => text)).toEqual(["192.168.1.1", "2001:db8::1"]);
  expect(resolved).toBe(false);
});

test("behind systemd-resolved's own address are the servers that it tells", () => {
  const resolvConf = file("stub", "nameserver 127.0.0.53\noptions edns0\n");
  const resolvedConf = file("behind", "nameserver 10.0.0.2\n");
  const { servers, resolved } = readSystemDns({ resolvConf, resolvedConf });
  expect(servers.map(({ text }) => text)).toEqual(["10.0.0.2"]);
  expect(resolved).toBe(true);
});

test("a machine without the file asks nobody", () => {
  expect(readSystemDns({ resolvConf: none, resolvedConf: none })).toEqual({ servers: [], resolved: false });
});

test("/etc/hosts is read as the C library does: any name of the line, without case", () => {
  const hosts = file("hosts", "127.0.0.1 localhost\n10.0.0.7 a.test B.test # c.test\n::7 b.test\n");
  expect(hostsAddresses("b.TEST.", { hosts }).map(({ text }) => text)).toEqual(["10.0.0.7", "::7"]);
  expect(hostsAddresses("c.test", { hosts })).toEqual([]);
});
