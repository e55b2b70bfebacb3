import type { Check } from "./check.ts";
import { ENCRYPTED_DISKS } from "./encrypted-disks.ts";
import { HEALTH_TAGS_KEPT } from "./health-tags-kept.ts";
import { METADATA_V2 } from "./metadata-v2.ts";
import { NO_SECRET_IN_USER_DATA } from "./no-secret-in-user-data.ts";
import { NO_SSH } from "./no-ssh.ts";
import { NO_WILDCARD_IAM } from "./no-wildcard-iam.ts";
import { TUNNEL_PORT_OPEN } from "./tunnel-port-open.ts";
import { UNIQUE_PORTS } from "./unique-ports.ts";

export const ALL_CHECKS: readonly Check[] = [
  METADATA_V2,
  ENCRYPTED_DISKS,
  NO_SSH,
  NO_WILDCARD_IAM,
  NO_SECRET_IN_USER_DATA,
  TUNNEL_PORT_OPEN,
  UNIQUE_PORTS,
  HEALTH_TAGS_KEPT,
];
