/** What this machine has: its interfaces and default routes from the kernel, and what the cloud's metadata add. */
import * as z from "zod";
import { Ip, Prefix } from "../../base/address.ts";
import { OperationError } from "../../base/errors.ts";
import type { CloudInterface, DefaultRoute, Facts, Link } from "../../core/exit/facts.ts";
import { run, runWell } from "./command.ts";

/** The instance's metadata; a path is below /latest/meta-data/. */
export interface Metadata {
  /** `undefined` when there is no such entry. @throws OperationError when the service does not answer */
  find(path: string): Promise<string | undefined>;
}

/** @throws OperationError */
export async function readFacts(
  advertised: readonly Prefix[],
): Promise<Omit<Facts, "cloud" | "metadataFailure">> {
  const [links, v4, v6, ...routed] = await Promise.all([
    runWell("ip", ["-json", "address", "show"]).then(parseLinks),
    runWell("ip", ["-json", "-4", "route", "show", "default"]).then((text) => parseRoutes(text, true)),
    runWell("ip", ["-json", "-6", "route", "show", "default"]).then((text) => parseRoutes(text, false)),
    ...[true, false].map((isV4) => readRouted(advertised, isV4)),
  ]);
  return { links, defaultRoutes: [...v4, ...v6], routed: routed.flat() };
}

/** As packets of root, to which no rule of ours applies; networks without a route have no device. */
async function readRouted(advertised: readonly Prefix[], isV4: boolean): Promise<Facts["routed"]> {
  const asked = advertised.filter(({ ip }) => ip.isV4 === isV4);
  if (asked.length === 0) return [];
  const batch = asked.map(({ ip }) => `route get ${ip.text} uid 0\n`).join("");
  const { stdout } = await run("ip", [isV4 ? "-4" : "-6", "-force", "-batch", "-"], batch);
  const devices = new Set([...stdout.matchAll(/ dev (\S+)/g)].map(([, device = ""]) => device));
  return [...devices].toSorted().map((device) => ({ device, isV4 }));
}

/** Of the interfaces, at least one. @throws OperationError when no metadata service tells any */
export async function readMacs(metadata: Metadata): Promise<readonly string[]> {
  const macs = (await metadata.find("network/interfaces/macs/")) ?? "";
  const names = macs.split("\n").map((line) => line.trim().replace(/\/$/, ""));
  const found = names.filter((mac) => mac !== "");
  if (found.length === 0) throw incomplete("no interface");
  return found;
}

/** All of it or nothing. @throws OperationError when a question is not answered */
export async function readCloud(
  metadata: Metadata,
  macs: readonly string[],
): Promise<readonly CloudInterface[]> {
  return await Promise.all(macs.map((mac) => readInterface(metadata, mac)));
}

function incomplete(what: string): OperationError {
  const text = `the instance's metadata tell ${what}: they are asked again until they do`;
  return new OperationError("forwarding-metadata", text);
}

/** https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-metadata.html */
async function readInterface(metadata: Metadata, mac: string): Promise<CloudInterface> {
  const find = async (name: string): Promise<readonly string[]> => {
    const text = await metadata.find(`network/interfaces/macs/${mac}/${name}`);
    return (text ?? "").split(/\s+/).filter((part) => part !== "");
  };
  const [id, number, v4, v6, publicV4, subnetV4, subnetV6, rangesV4, rangesV6] = await Promise.all([
    find("interface-id"),
    find("device-number"),
    find("local-ipv4s"),
    find("ipv6s"),
    find("public-ipv4s"),
    find("subnet-ipv4-cidr-block"),
    find("subnet-ipv6-cidr-blocks"),
    find("vpc-ipv4-cidr-blocks"),
    find("vpc-ipv6-cidr-blocks"),
  ]);
  const needed: Readonly<Record<string, boolean>> = {
    "interface-id": id.length > 0,
    "device-number": /^\d+$/.test(number[0] ?? ""),
    "local-ipv4s": v4.length + v6.length > 0,
    "subnet-ipv4-cidr-block": v4.length === 0 || subnetV4.length > 0,
    "subnet-ipv6-cidr-blocks": v6.length === 0 || subnetV6.length > 0,
    "vpc-ipv4-cidr-blocks": v4.length === 0 || rangesV4.length > 0,
    "vpc-ipv6-cidr-blocks": v6.length === 0 || rangesV6.length > 0,
  };
  const missing = Object.keys(needed).find((name) => needed[name] === false);
  if (missing !== undefined) throw incomplete(`no ${missing} of the interface ${mac}`);
  return {
    id: id[0] ?? mac,
    mac: mac.toLowerCase(),
    deviceNumber: Number(number[0]),
    addresses: [...v4, ...v6].map((text) => Ip.parse(text)),
    publicAddresses: publicV4.map((text) => Ip.parse(text)),
    subnets: [...subnetV4, ...subnetV6].map((text) => Prefix.parse(text)),
    ranges: [...rangesV4, ...rangesV6].map((text) => Prefix.parse(text)),
  };
}

const linksSchema = z.array(
  z.object({
    ifname: z.string(),
    address: z.string().optional(),
    addr_info: z.array(z.object({ local: z.string().optional(), prefixlen: z.number() })).optional(),
  }),
);

const routesSchema = z.array(
  z.object({ dev: z.string().optional(), gateway: z.string().optional(), metric: z.number().optional() }),
);

function parseLinks(text: string): readonly Link[] {
  return parse(linksSchema, text, "ip address").map(({ ifname, address = "", addr_info: found = [] }) => ({
    name: ifname.split("@")[0] ?? ifname,
    mac: address.toLowerCase(),
    addresses: found.flatMap(({ local, prefixlen }) => {
      const ip = Ip.tryParse(local ?? "");
      return ip === undefined ? [] : [{ ip, bits: prefixlen }];
    }),
  }));
}

function parseRoutes(text: string, isV4: boolean): readonly DefaultRoute[] {
  return parse(routesSchema, text, "ip route").flatMap(({ dev, gateway, metric = 0 }) => {
    const via = gateway === undefined ? undefined : Ip.tryParse(gateway);
    return dev === undefined ? [] : [{ device: dev, via, isV4, metric }];
  });
}

function parse<T>(schema: z.ZodType<T>, text: string, what: string): T {
  try {
    return schema.parse(JSON.parse(text === "" ? "[]" : text));
  } catch (cause) {
    const message = `the answer of "${what}" can not be read: install iproute2 4.19 or later`;
    throw new OperationError("forwarding-ip", message, { cause });
  }
}
