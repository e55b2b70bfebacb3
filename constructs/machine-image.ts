import { DataAwsAmi } from "@cdktf/provider-aws/lib/data-aws-ami/index.js";
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

/** The image that is given, or Amazon Linux. `owner` names the construct in errors. */
export function machineImage(
  scope: Construct,
  given: string | undefined,
  architecture: Architecture,
  owner: string,
): string {
  if (given === undefined) return amazonLinux(scope, "AmazonLinux", architecture);
  if (given === "") {
    throw new Error(
      `${owner} machineImageId is empty: give an image such as "ami-0123456789abcdef0", or leave it out.`,
    );
  }
  checkImageWhenPlanned(scope, given, architecture, owner);
  return given;
}

/** What an image is for only AWS knows. */
function checkImageWhenPlanned(
  scope: Construct,
  id: string,
  architecture: Architecture,
  owner: string,
): void {
  new DataAwsAmi(scope, "Image", {
    filter: [{ name: "image-id", values: [id] }],
    // Amazon Linux's are deprecated after three months, and can be used on.
    includeDeprecated: true,
    lifecycle: {
      postcondition: [
        {
          condition: `\${self.architecture == "${architecture}"}`,
          errorMessage: `${owner} machineImageId ${id} is for \${self.architecture} and architecture is ${architecture}: set architecture to "\${self.architecture}", or give another image.`,
        },
      ],
    },
  });
}

/** Of references, known only when it is deployed, undefined. */
export function architectureOf(instanceType: string): Architecture | undefined {
  const [, family = ""] = /^([a-z0-9-]+)\.[a-z0-9-]+$/.exec(instanceType) ?? [];
  if (family === "") return undefined;
  // AWS marks its own processors with a "g" after the generation: t4g, c7gn, r8gd; "a1" is older than the rule.
  return family === "a1" || /^[a-z]+\d+g/.test(family) ? "arm64" : "x86_64";
}

export function checkArchitecture(instanceType: string, architecture: Architecture, owner: string): void {
  const built = architectureOf(instanceType);
  if (built !== undefined && built !== architecture) {
    throw new Error(
      `${owner} instanceType ${instanceType} is ${built} and architecture is ${architecture}: set architecture to "${built}", or choose a type such as ${SMALLEST_INSTANCE[architecture]}.`,
    );
  }
}
