/** On an instance: makes calls with AWS's own clients as they come, and prints what each came to. Arguments: calls as JSON. */
import * as ec2 from "@aws-sdk/client-ec2";
import * as ssm from "@aws-sdk/client-ssm";

const PACKAGES = {
  ec2: [ec2, new ec2.EC2Client({ maxAttempts: 1 })],
  ssm: [ssm, new ssm.SSMClient({ maxAttempts: 1 })],
};

for (const text of process.argv.slice(2)) {
  const [service, command, input] = JSON.parse(text);
  const [library, client] = PACKAGES[service];
  const outcome = await client.send(new library[`${command}Command`](input)).then(
    () => "ok",
    (error) => `${error.name}`,
  );
  process.stdout.write(`${service}:${command} ${outcome}\n`);
}
