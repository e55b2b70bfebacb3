/** Props that several constructs take, checked where they are given; each error names the prop and the remedy. */
import { Token } from "cdktf";

/** Values known only when it is deployed can't be looked at before. */
export function isKnown(value: string): boolean {
  return !Token.isUnresolved(value);
}

export function checkedPort(port: number, prop: string): number {
  if (Token.isUnresolved(port)) return port;
  if (!Number.isInteger(port) || port < 1 || port > 65535) {
    throw new Error(`${prop} is ${port}: give a whole number from 1 to 65535.`);
  }
  return port;
}

export interface CidrRule {
  readonly prop: string;
  /** The shortest and the longest prefix. */
  readonly bits: readonly [number, number];
  readonly example: string;
}

export function checkedCidrBlock(cidrBlock: string, { prop, bits: [min, max], example }: CidrRule): string {
  if (!isKnown(cidrBlock)) return cidrBlock;
  const [, address = "", bits = ""] = /^(\d{1,3}(?:\.\d{1,3}){3})\/(\d{1,2})$/.exec(cidrBlock) ?? [];
  const octets = address.split(".").map(Number);
  const octetsFit = octets.every((octet) => octet <= 255);
  if (address === "" || !octetsFit || Number(bits) < min || Number(bits) > max) {
    throw new Error(
      `${prop} is "${cidrBlock}": give an IPv4 range from /${min} to /${max}, such as "${example}".`,
    );
  }
  // Beyond the prefix, AWS wants zeros.
  const size = 2 ** (32 - Number(bits));
  const number = octets.reduce((sum, octet) => sum * 256 + octet, 0);
  if (number % size !== 0) {
    const first = number - (number % size);
    const whole = [24, 16, 8, 0].map((shift) => Math.floor(first / 2 ** shift) % 256).join(".");
    throw new Error(`${prop} is "${cidrBlock}", which begins within a range: give "${whole}/${bits}".`);
  }
  return cidrBlock;
}

/** An address of a web server, without anything that a shell, a JSON file or a log should not see. */
export function checkedLoginServer(loginServer: string, prop: string): string {
  if (isKnown(loginServer) && !/^https:\/\/[^\s'"`\\@?#]+$/.test(loginServer)) {
    throw new Error(
      `${prop} is not a web address: give it as "https://ADDRESS", without user, password or query.`,
    );
  }
  return loginServer;
}

export function checkedHostname(hostname: string, prop: string): string {
  if (isKnown(hostname) && !/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i.test(hostname)) {
    throw new Error(
      `${prop} is "${hostname}": give 1 to 63 letters, digits and hyphens, a hyphen neither first nor last.`,
    );
  }
  return hostname;
}
