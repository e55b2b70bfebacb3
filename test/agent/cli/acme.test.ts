import { acmeOf } from "../../../agent/src/cli/acme.ts";
import { acmeSettings } from "../../../agent/src/io/config.ts";
import { readSettings } from "../../../agent/src/io/settings.ts";

const read = (env: Readonly<Record<string, string>>, problems: string[] = []) =>
  readSettings(acmeSettings("SALLYPORT_RELAY"), { flags: {}, env, file: {} }, problems);
const BESIDE = { certFile: undefined, name: "relay.example.com" };

test("nobody is asked where it was not asked for", () => {
  expect(acmeOf(read({}), BESIDE)).toBeUndefined();
});

test("Let's Encrypt is asked once its terms are agreed to, and proves over port 80", () => {
  const settings = read({ SALLYPORT_RELAY_ACME: "true", SALLYPORT_RELAY_ACME_TERMS_AGREED: "true" });
  expect(acmeOf(settings, BESIDE)).toEqual({
    ...{ directory: "https://acme-v02.api.letsencrypt.org/directory", email: undefined, httpPort: 80 },
  });
});

test.each([
  [
    "without agreed terms",
    {},
    BESIDE,
    "read its terms (https://letsencrypt.org/repository/) and give --acme-terms-agreed",
  ],
  [
    "of another authority",
    { SALLYPORT_RELAY_ACME_DIRECTORY: "https://ca.example/dir" },
    BESIDE,
    "--acme asks ca.example",
  ],
  ["beside a certificate", {}, { ...BESIDE, certFile: "x.pem" }, "leave --cert-file and --key-file out"],
  ["without a name", {}, { ...BESIDE, name: undefined }, "give --hostname or --address"],
])("%s it is refused", (_, env, beside, why) => {
  expect(() => acmeOf(read({ SALLYPORT_RELAY_ACME: "true", ...env }), beside)).toThrow(why);
});

test("a directory without TLS and an address that is none are refused", () => {
  const problems: string[] = [];
  read({ SALLYPORT_RELAY_ACME_DIRECTORY: "http://ca.example", SALLYPORT_RELAY_ACME_EMAIL: "me" }, problems);
  expect(problems).toHaveLength(2);
});
