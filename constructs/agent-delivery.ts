/** The lines of the user data that bring the agent onto an instance. */
import type { BundleLocation } from "./agent-bundle.ts";

/** What the archive holds is unpacked into a folder named by its hash, which this leads to. */
export const AGENT_FOLDER = "/opt/sallyport/current";
const METADATA = "http://169.254.169.254/latest";
/** A role can take a while to become usable after it was made; 30 tries are some five minutes. */
const TRIES = 30;

/**
 * Fetches the archive with the instance's own role, and unpacks it if it has the hash that it must have. The credentials
 * reach curl by its standard input, not by its command line.
 */
export function deliveryScript({ url, sha256, signedFor }: BundleLocation): readonly string[] {
  return [
    `url='${url}'`,
    `sha256='${sha256}'`,
    // Not /tmp, which is memory on Amazon Linux.
    "archive=$(mktemp -p /var/tmp)",
    "trap 'rm -f \"$archive\"' EXIT",
    "fetch() {",
    ...(signedFor === undefined ? FETCH_OPENLY : fetchSigned(signedFor.region)),
    "}",
    "fetched=no",
    `for try in $(seq ${TRIES}); do`,
    "  if fetch; then fetched=yes; break; fi",
    '  echo "sallyport: no agent yet (try $try)" >&2',
    "  sleep 10",
    "done",
    '[ "$fetched" = yes ] || { echo "sallyport: $url can not be fetched: is the object there, and may the role read it?" >&2; exit 1; }',
    'if ! echo "$sha256  $archive" | sha256sum --check --status; then',
    '  echo "sallyport: $url is not what was deployed: its SHA-256 is not $sha256" >&2',
    "  exit 1",
    "fi",
    'folder="/opt/sallyport/$sha256"',
    'install -d -m 0755 "$folder"',
    'tar -xf "$archive" -C "$folder" --no-same-owner',
    'tar -xzf "$folder/node.tgz" -C "$folder" --no-same-owner --strip-components=2 package/bin/node',
    'rm -f "$folder/node.tgz"',
    `ln -sfn "$folder" ${AGENT_FOLDER}`,
    "printf '#!/bin/sh\\nexec %s/node %s/sallyport.mjs \"$@\"\\n' " +
      `${AGENT_FOLDER} ${AGENT_FOLDER} > /usr/local/bin/sallyport`,
    "chmod 0755 /usr/local/bin/sallyport",
    "id sallyport > /dev/null 2>&1 || useradd --system --user-group --no-create-home --shell /usr/sbin/nologin sallyport",
  ];
}

const CURL = "curl --silent --show-error --fail --connect-timeout 10";

const FETCH_OPENLY = [`  ${CURL} --location --max-time 600 --output "$archive" "$url"`];

function fetchSigned(region: string): readonly string[] {
  return [
    "  local token role credentials id secret session",
    `  token=$(${CURL} --max-time 20 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' ${METADATA}/api/token) || return 1`,
    `  role=$(${CURL} --max-time 20 -H "X-aws-ec2-metadata-token: $token" ${METADATA}/meta-data/iam/security-credentials/) || return 1`,
    `  credentials=$(${CURL} --max-time 20 -H "X-aws-ec2-metadata-token: $token" "${METADATA}/meta-data/iam/security-credentials/$role") || return 1`,
    ...["id:AccessKeyId", "secret:SecretAccessKey", "session:Token"].map((pair) => {
      const [variable, field] = pair.split(":");
      return `  ${variable}=$(echo "$credentials" | sed -n 's/.*"${field}" *: *"\\([^"]*\\)".*/\\1/p')`;
    }),
    `  ${CURL} --max-time 600 --aws-sigv4 'aws:amz:${region}:s3' --output "$archive" --config - "$url" <<END`,
    'user = "$id:$secret"',
    'header = "x-amz-security-token: $session"',
    // curl signs this header's value for the body's hash, and S3 wants it sent.
    'header = "x-amz-content-sha256: UNSIGNED-PAYLOAD"',
    "END",
  ];
}
