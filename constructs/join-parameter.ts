import { SsmParameter } from "@cdktf/provider-aws/lib/ssm-parameter/index.js";
import { Construct } from "constructs";
import { checkedParameterName } from "./auth-key.ts";

export interface JoinParameterProps {
  /** Such as "/sallyport/my-network/join". */
  readonly name: string;
}

/**
 * The parameter for a network's join token. Terraform owns it, so that destroy removes it, and never knows its value: it
 * writes a word of its own, once, and the coordination server overwrites that. Both encrypt with the account's own key for
 * Systems Manager.
 */
export class JoinParameter extends Construct {
  readonly name: string;

  constructor(scope: Construct, id: string, props: JoinParameterProps) {
    super(scope, id);
    this.name = checkedParameterName(props.name, "JoinParameter name");
    new SsmParameter(this, "Parameter", {
      name: this.name,
      type: "SecureString",
      description: "Sallyport: joins a device to a network",
      // Known to the agent, which does not take it for a key.
      valueWo: "pending",
      valueWoVersion: 1,
    });
  }

  /** The line that a person runs on a device. */
  command(region: string, loginServer: string): string {
    const read = `aws ssm get-parameter --region ${region} --name ${this.name} --with-decryption --query Parameter.Value --output text`;
    return `${read} | sallyport up --login-server ${loginServer} --auth-key -`;
  }
}
