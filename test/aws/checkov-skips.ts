/** checkov's rules that our stacks break on purpose, each with its reason. A rule that nothing breaks any more is an error. */
export const CHECKOV_SKIPS: Readonly<Record<string, string>> = {
  CKV_AWS_88: "a node that is reached directly has a public address: that is what it is for",
  CKV_AWS_130: "its subnet gives public addresses, for the same reason",
  CKV_AWS_126: "detailed monitoring costs more than the instance: the agent reports its own health",
  CKV_AWS_382: "the rule takes ICMP's type -1 (ping of devices behind the node) for every protocol",
  CKV2_AWS_5:
    "the rule does not see groups that are attached by reference, to launch templates and interfaces",
  CKV2_AWS_19: "likewise for Elastic IPs that are attached by an association",
  CKV2_AWS_11: "flow logs of an exit node record what its users visit: the owner of the network decides",
  CKV2_AWS_12: "nothing is put into the default security group",
  CKV_AWS_18: "the bucket holds one public program and no data: nobody reads its access log",
  CKV_AWS_21: "an object's name is the hash of its content, so it has no other version",
  CKV_AWS_144: "the agent's archive can be made again from its sources",
  CKV_AWS_145: "the agent's archive is no secret: S3's own key is enough",
  CKV2_AWS_61: "each agent's archive is removed by the deploy that replaces it",
  CKV2_AWS_62: "nobody waits for an upload",
  CKV_AWS_189: "EBS's own key by default; CellIdentity takes another as kmsKeyArn",
  CKV_AWS_26: "EventBridge can not publish with SNS's own key; HealthAlarm takes another as kmsKeyArn",
  CKV_AWS_337: "the account's key for Systems Manager by default",
};
