export {
  CreateTagsCommand,
  DescribeInstancesCommand,
  type DescribeInstancesCommandOutput,
  DescribeRegionsCommand,
  EC2Client,
  type Instance,
} from "@aws-sdk/client-ec2";
