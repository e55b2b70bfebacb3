import { DataAwsSsmParameter } from "@cdktf/provider-aws/lib/data-aws-ssm-parameter/index.js";
import type { Construct } from "constructs";

export type Architecture = "arm64" | "x86_64";

/** The smallest instance of each architecture that AWS sells in every region. */
export const SMALLEST_INSTANCE: Readonly<Record<Architecture, string>> = {
  arm64: "t4g.nano",
  x86_64: "t3.nano",
};

/** Amazon Linux 2023 as AWS publishes it, the newest at each deploy. */
export function amazonLinux(scope: Construct, id: string, architecture: Architecture): string {
  const parameter = new DataAwsSsmParameter(scope, id, {
    name: `/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-${architecture}`,
  });
  // `value` is marked as secret, which would hide the image in every plan.
  return parameter.insecureValue;
}
