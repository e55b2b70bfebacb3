import { lookup } from "node:dns/promises";
import { Ip, IpPort } from "../base/address.ts";
import { OperationError } from "../base/errors.ts";
import { type Millis, seconds } from "../base/time.ts";
import { codeOf } from "./system-error.ts";

/** Longer than the system's resolver waits for one server (5 s by default would be its second try). */
const DEFAULT_LIMIT: Millis = seconds(5);

/**
 * Asks the system's resolver for all addresses of a name, in its order; a literal address is taken as it is.
 * @throws OperationError when there is none, or no answer within `limit`
 */
export async function resolveHost(
  host: string,
  port: number,
  limit: Millis = DEFAULT_LIMIT,
): Promise<readonly IpPort[]> {
  const literal = literalIn(host);
  if (literal !== undefined) return [new IpPort(literal, port)];
  const found = await withinLimit(lookup(host, { all: true, verbatim: true }), host, limit);
  const addresses = found.flatMap(({ address }) => Ip.tryParse(address) ?? []);
  if (addresses.length === 0) throw noAddress(host, "it has no usable address");
  return addresses.map((ip) => new IpPort(ip, port));
}

/** The address that stands in the place of a name, in brackets or not. */
export function literalIn(host: string): Ip | undefined {
  return Ip.tryParse(host.replace(/^\[(.*)\]$/, "$1"));
}

async function withinLimit<T>(answer: Promise<T>, host: string, limit: Millis): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(noAddress(host, `no answer within ${limit} ms`)), limit);
  });
  try {
    return await Promise.race([answer, late]);
  } catch (error) {
    if (error instanceof OperationError) throw error;
    throw noAddress(host, codeOf(error), error);
  } finally {
    clearTimeout(timer);
  }
}

function noAddress(host: string, reason: string, cause?: unknown): OperationError {
  return new OperationError(
    "dns",
    `the address of ${host} can not be found (${reason}): check the name and this machine's DNS servers`,
    { cause },
  );
}
