/** `npm run cost`: what the synthesized stacks cost a month. `npm run cost -- FOLDER` reads another cdktf.out. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { estimate } from "./estimate.ts";
import { PRICES_OF } from "./prices.ts";

const folder = join(process.argv[2] ?? process.env["CDKTF_OUTDIR"] ?? "cdktf.out", "stacks");
if (existsSync(folder)) print(folder);
else {
  process.stderr.write(`${folder} is not there: run \`npx cdktf synth\` first\n`);
  process.exitCode = 1;
}

function print(stacks: string): void {
  let sum = 0;
  for (const id of readdirSync(stacks)) {
    const json = JSON.parse(readFileSync(join(stacks, id, "cdk.tf.json"), "utf8")) as Record<string, unknown>;
    const { lines, total, throughNatGateway, exitTrafficGb } = estimate(json);
    say(id);
    for (const { what, count, monthly } of lines) {
      say(`  ${String(count).padStart(3)} ${what.padEnd(24)} ${dollars(monthly)}`);
    }
    say(`      ${"a month, without traffic".padEnd(24)} ${dollars(total)}`);
    say(
      `      exit traffic: $${exitTrafficGb.toFixed(3)} a GB${throughNatGateway ? ", a third of it for the NAT gateway" : ""}`,
    );
    sum += total;
  }
  say(`all stacks: ${dollars(sum).trim()} a month at the list prices of ${PRICES_OF}`);
}

function dollars(amount: number | undefined): string {
  return amount === undefined ? "no price known" : `$${amount.toFixed(2)}`.padStart(9);
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
