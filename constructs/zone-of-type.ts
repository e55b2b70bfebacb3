import { DataAwsEc2InstanceTypeOfferings } from "@cdktf/provider-aws/lib/data-aws-ec2-instance-type-offerings/index.js";
import { Fn } from "cdktf";
import type { Construct } from "constructs";
import { regionOf } from "./region.ts";

/** No region has more. Local zones, such as us-east-1-bos-1a, have none of these letters right after the region's name. */
const ZONE_LETTERS = ["a", "b", "c", "d", "e", "f"];

/** The first zone that has the instance type: not every zone has every one (us-east-1e has none of the newer ones). */
export function zoneOfType(scope: Construct, id: string, instanceType: string): string {
  const region = regionOf(scope).name;
  const offered = new DataAwsEc2InstanceTypeOfferings(scope, id, {
    locationType: "availability-zone",
    filter: [
      { name: "instance-type", values: [instanceType] },
      { name: "location", values: ZONE_LETTERS.map((letter) => `${region}${letter}`) },
    ],
    lifecycle: {
      postcondition: [
        {
          condition: "${length(self.locations) > 0}",
          errorMessage: `No zone of the region has ${instanceType}: give another instanceType, or another region.`,
        },
      ],
    },
  });
  return String(Fn.element(Fn.sort(offered.locations), 0));
}
