/** The flags by which relay and coordination server ask an authority for their certificate. */
import type { Command } from "commander";
import { UsageError } from "../base/errors.ts";
import { ACME_HTTP_PORT, LETS_ENCRYPT } from "../io/acme.ts";
import type { AcmeSettings } from "../io/acme-certificate.ts";
import type { acmeSettings } from "../io/config.ts";
import type { ValuesOf } from "../io/settings.ts";

export function addAcmeOptions(command: Command): Command {
  return command
    .option("--acme", "get a certificate for the hostname or address from Let's Encrypt (needs TCP port 80)")
    .option("--acme-terms-agreed", "you agree to the authority's terms of service")
    .option("--acme-email <address>", "where the authority writes to before the certificate ends")
    .option("--acme-directory <url>", `another authority's directory (default ${LETS_ENCRYPT})`)
    .option("--acme-http-port <port>", "TCP port for its proof, which its port 80 must lead to (default 80)");
}

interface Beside {
  readonly certFile: string | undefined;
  /** What clients connect to. */
  readonly name: string | undefined;
}

/** Undefined where no authority is to be asked. @throws UsageError */
export function acmeOf(
  values: ValuesOf<ReturnType<typeof acmeSettings>>,
  { certFile, name }: Beside,
): AcmeSettings | undefined {
  if (values.acme !== true) return undefined;
  if (certFile !== undefined) {
    throw new UsageError(
      "acme-certificate",
      "--acme gets a certificate: leave --cert-file and --key-file out",
    );
  }
  if (name === undefined) {
    throw new UsageError("acme-name", "--acme proves what clients connect to: give --hostname or --address");
  }
  const directory = values.acmeDirectory ?? LETS_ENCRYPT;
  if (values.acmeTermsAgreed !== true) {
    const terms = directory === LETS_ENCRYPT ? " (https://letsencrypt.org/repository/)" : "";
    throw new UsageError(
      "acme-terms",
      `--acme asks ${new URL(directory).host} for a certificate: read its terms${terms} and give --acme-terms-agreed`,
    );
  }
  return { directory, email: values.acmeEmail, httpPort: values.acmeHttpPort ?? ACME_HTTP_PORT };
}
