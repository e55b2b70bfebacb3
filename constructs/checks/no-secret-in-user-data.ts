import { type Check, machines } from "./check.ts";
import { userData } from "./user-data.ts";

/** Everybody who may describe an instance reads its user data, and Terraform's state holds it. */
const SECRETS: Readonly<Record<string, RegExp>> = {
  "an auth key": /\b(tskey|hskey|spkey)-[\w-]{8,}/,
  "an access key": /\b(AKIA|ASIA)[0-9A-Z]{16}\b/,
  "a private key": /-----BEGIN [A-Z ]*PRIVATE KEY-----|\bprivkey:[0-9a-f]{64}/,
  "a password": /\b(password|passwd|secret|token)["']?\s*[:=]\s*["']?(?!ssm:|file:|\$)[A-Za-z0-9+/_-]{20,}/i,
};

export const NO_SECRET_IN_USER_DATA: Check = {
  id: "no-secret-in-user-data",
  find: (resources) =>
    machines(resources).flatMap(({ address, attributes }) => {
      const text = userData(attributes);
      return Object.entries(SECRETS)
        .filter(([, pattern]) => pattern.test(text))
        .map(
          ([what]) =>
            `${address} seems to have ${what} in its user data: store it in Systems Manager and give its name`,
        );
    }),
};
