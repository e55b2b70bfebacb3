/**
 * A certificate from an authority by ACME (RFC 8555), for a DNS name or an IP address (RFC 8738), proven over HTTP on port 80
 * (http-01). That port is open only while a proof is looked for.
 */
import { createServer } from "node:http";
import { isIP } from "node:net";
import { OperationError } from "../base/errors.ts";
import { listenTcp } from "./listen.ts";

export interface AcmeOrder {
  /** The authority's directory. */
  readonly directory: string;
  /** Where the authority writes to before a certificate ends. */
  readonly email: string | undefined;
  /** What clients connect to: a DNS name or an IP address. */
  readonly name: string;
  /** PEM. The same key is the same account. */
  readonly accountKey: string;
  /** Where the authority's question arrives; its port 80 leads here. */
  readonly http: { readonly host: string; readonly port: number };
}

/** PEM, the leaf first. */
export interface IssuedCertificate {
  readonly key: string;
  readonly chain: string;
}

export const LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory";
/** RFC 8555, 8.3. */
export const ACME_HTTP_PORT = 80;
/** The only one in which Let's Encrypt certifies IP addresses: https://letsencrypt.org/docs/profiles/ */
const PROFILE_FOR_ADDRESSES = "shortlived";
const CHALLENGE_PATH = "/.well-known/acme-challenge/";
const DIRECTORY_TIMEOUT_MS = 20_000;
/** How long an order may take: 30 questions, at first a second apart. */
const PATIENCE = { backoffAttempts: 30, backoffMin: 1_000, backoffMax: 10_000 };

export async function newAccountKey(): Promise<string> {
  const { crypto } = await import("./apart/acme.ts");
  return (await crypto.createPrivateEcdsaKey()).toString();
}

/** Whoever calls has agreed to the authority's terms. @throws OperationError that says what the authority said */
export async function orderCertificate(order: AcmeOrder): Promise<IssuedCertificate> {
  try {
    return await ordered(order);
  } catch (error) {
    if (error instanceof OperationError) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw new OperationError(
      "acme",
      `no certificate for ${order.name} from ${new URL(order.directory).host} (${why.slice(0, 400)}): see that the name leads ` +
        `to this machine and that its TCP port ${ACME_HTTP_PORT} is open to everybody`,
    );
  }
}

async function ordered({ directory, email, name, accountKey, http }: AcmeOrder): Promise<IssuedCertificate> {
  const { Client, crypto } = await import("./apart/acme.ts");
  const client = new Client({ directoryUrl: directory, accountKey, ...PATIENCE });
  await client.createAccount({
    termsOfServiceAgreed: true,
    ...(email === undefined ? {} : { contact: [`mailto:${email}`] }),
  });
  const isAddress = isIP(name) !== 0;
  const profile = isAddress && (await profilesOf(directory)).includes(PROFILE_FOR_ADDRESSES);
  // The package's types do not know profiles, but what it is given it sends.
  const wanted = {
    identifiers: [{ type: isAddress ? "ip" : "dns", value: name }],
    ...(profile ? { profile: PROFILE_FOR_ADDRESSES } : {}),
  };
  const order = await client.createOrder(wanted);
  const proofs = new Map<string, string>();
  const close = await answerProofs(proofs, http);
  try {
    for (const authorization of await client.getAuthorizations(order)) {
      if (authorization.status === "valid") continue;
      const challenge = authorization.challenges.find(({ type }) => type === "http-01");
      if (challenge === undefined) throw new Error("the authority offers no proof over HTTP");
      proofs.set(challenge.token, await client.getChallengeKeyAuthorization(challenge));
      await client.completeChallenge(challenge);
      await client.waitForValidStatus(challenge);
    }
    const key = await crypto.createPrivateEcdsaKey();
    const [, request] = await crypto.createCsr({ altNames: [name] }, key);
    const chain = await client.getCertificate(await client.finalizeOrder(order, request));
    return { key: key.toString(), chain };
  } finally {
    await close();
  }
}

async function profilesOf(directory: string): Promise<readonly string[]> {
  const answer = await fetch(directory, { signal: AbortSignal.timeout(DIRECTORY_TIMEOUT_MS) });
  const { meta } = (await answer.json()) as { readonly meta?: { readonly profiles?: object } };
  return Object.keys(meta?.profiles ?? {});
}

/** Returns what ends it. */
async function answerProofs(
  proofs: ReadonlyMap<string, string>,
  { host, port }: AcmeOrder["http"],
): Promise<() => Promise<void>> {
  const server = createServer((request, response) => {
    const path = request.url ?? "";
    const proof = path.startsWith(CHALLENGE_PATH) ? proofs.get(path.slice(CHALLENGE_PATH.length)) : undefined;
    if (proof === undefined) response.writeHead(404).end();
    else response.writeHead(200, { "Content-Type": "application/octet-stream" }).end(proof);
  });
  const listener = await listenTcp(server, host, port);
  return () => listener.close();
}
