/** Whom this machine asks for names: what /etc/resolv.conf and /etc/hosts say. */
import { readFileSync } from "node:fs";
import { Ip } from "../base/address.ts";

export interface SystemDnsFiles {
  /** @default "/etc/resolv.conf" */
  readonly resolvConf?: string;
  /** Where systemd-resolved tells the servers behind its own address. @default "/run/systemd/resolve/resolv.conf" */
  readonly resolvedConf?: string;
  /** @default "/etc/hosts" */
  readonly hosts?: string;
}

export interface SystemDns {
  /** Addresses with a zone, such as fe80::1%eth0, are left out. */
  readonly servers: readonly Ip[];
  /** Programs ask systemd-resolved, which knows servers for each network device. */
  readonly resolved: boolean;
}

/** systemd-resolved's own addresses (systemd-resolved.service(8)). */
const RESOLVED_STUBS: ReadonlySet<string> = new Set(["127.0.0.53", "127.0.0.54"]);

/** Never throws: what can not be read names no server. */
export function readSystemDns(files: SystemDnsFiles = {}): SystemDns {
  const { resolvConf = "/etc/resolv.conf", resolvedConf = "/run/systemd/resolve/resolv.conf" } = files;
  const named = nameserversIn(textOf(resolvConf));
  const resolved = named.some(({ text }) => RESOLVED_STUBS.has(text));
  const behind = resolved ? nameserversIn(textOf(resolvedConf)) : [];
  return { servers: [...named, ...behind].filter((ip) => !ip.isLoopback), resolved };
}

/** The addresses that /etc/hosts gives a name. */
export function hostsAddresses(name: string, files: SystemDnsFiles = {}): readonly Ip[] {
  const wanted = name.toLowerCase().replace(/\.$/, "");
  return linesOf(textOf(files.hosts ?? "/etc/hosts")).flatMap(([address = "", ...names]) =>
    names.some((each) => each.toLowerCase() === wanted) ? (Ip.tryParse(address) ?? []) : [],
  );
}

function nameserversIn(text: string): readonly Ip[] {
  return linesOf(text).flatMap(([keyword, address = ""]) =>
    keyword === "nameserver" ? (Ip.tryParse(address) ?? []) : [],
  );
}

function linesOf(text: string): readonly (readonly string[])[] {
  return text.split("\n").map((line) =>
    line
      .replace(/[#;].*/, "")
      .trim()
      .split(/\s+/),
  );
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
