import { type Check, list, object } from "./check.ts";

/** Every disk: of instances, of launch templates, and volumes of their own. */
export const ENCRYPTED_DISKS: Check = {
  id: "encrypted-disks",
  find: (resources) =>
    resources
      .filter(({ type, attributes }) => {
        if (type === "aws_ebs_volume") return !isEncrypted(attributes);
        if (type === "aws_instance") {
          return [object(attributes["root_block_device"]), ...list(attributes["ebs_block_device"])].some(
            (device) => !isEncrypted(object(device)),
          );
        }
        if (type !== "aws_launch_template") return false;
        const devices = list(attributes["block_device_mappings"]);
        return devices.length === 0 || devices.some((one) => !isEncrypted(object(object(one)["ebs"])));
      })
      .map(({ address }) => `${address} has a disk that is not encrypted: set encrypted`),
};

function isEncrypted(device: Readonly<Record<string, unknown>>): boolean {
  return device["encrypted"] === true || device["encrypted"] === "true";
}
