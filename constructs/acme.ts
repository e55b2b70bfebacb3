/** A certificate that every client trusts, from Let's Encrypt or another authority, for a server's name or address. */
import { isKnown } from "./checked.ts";

export interface Acme {
  /** You agree to the authority's terms of service: https://letsencrypt.org/repository/ */
  readonly termsAgreed: true;
  /**
   * Where the authority writes to before a certificate ends.
   * @default nowhere
   */
  readonly email?: string;
  /**
   * The directory of another authority.
   * @default Let's Encrypt
   */
  readonly directory?: string;
}

/** The agent's own keys. */
export function acmeConfig(acme: Acme): Readonly<Record<string, unknown>> {
  const { termsAgreed, email, directory } = acme;
  if ((termsAgreed as unknown) !== true) {
    throw new Error(
      "acme termsAgreed is not true: read the authority's terms and set it, or leave acme out.",
    );
  }
  if (email !== undefined && isKnown(email) && !/^[^\s@"\\]+@[^\s@"\\]+$/.test(email)) {
    throw new Error('acme email is no address: give one such as "admin@example.com", or leave it out.');
  }
  if (directory !== undefined) checkAcmeDirectory(directory, "acme directory");
  return {
    acme: true,
    acmeTermsAgreed: true,
    ...(email === undefined ? {} : { acmeEmail: email }),
    ...(directory === undefined ? {} : { acmeDirectory: directory }),
  };
}

export function checkAcmeDirectory(directory: string, prop: string): void {
  if (isKnown(directory) && !/^https:\/\/[^\s'"`\\@$]+$/.test(directory)) {
    throw new Error(`${prop} is no web address: give it as "https://…".`);
  }
}
