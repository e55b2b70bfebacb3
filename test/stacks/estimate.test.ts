import { configJsonSchema } from "../../stacks/config.ts";
import { estimate } from "../../stacks/estimate.ts";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const machine = {
  instance_type: "t4g.nano",
  root_block_device: { volume_size: 8 },
  associate_public_ip_address: true,
};

test("an instance with a dynamic address: itself, its address, its disk", () => {
  const { lines, total } = estimate({ resource: { aws_instance: { a: machine } } });
  expect(lines.map(({ what, count }) => [what, count])).toEqual([
    ["t4g.nano", 1],
    ["public IPv4 address", 1],
    ["GiB of gp3 disk", 8],
  ]);
  expect(total).toBeCloseTo(730 * (0.0042 + 0.005) + 8 * 0.08);
});

test("an Elastic IP takes the dynamic one's place", () => {
  const { lines } = estimate({
    resource: {
      aws_instance: { a: machine },
      aws_eip: { e: {} },
      aws_eip_association: { x: { instance_id: "${aws_instance.a.id}" } },
    },
  });
  expect(lines).toContainEqual({ what: "public IPv4 address", count: 1, monthly: 730 * 0.005 });
});

test("a NAT gateway is named as what it is, and a type without a price too", () => {
  const { lines, throughNatGateway } = estimate({
    resource: { aws_nat_gateway: { n: {} }, aws_instance: { a: { ...machine, instance_type: "x9g.huge" } } },
  });
  expect(throughNatGateway).toBe(true);
  expect(lines).toContainEqual({ what: "x9g.huge", count: 1, monthly: undefined });
});

test("exit traffic by a NAT gateway costs more by the GB, also where that is another's", () => {
  const direct = { ...machine, user_data: '{ "egressMode": "direct" }' };
  const split = { ...machine, user_data: '{ "egressMode": "split" }' };
  expect(estimate({ resource: { aws_instance: { a: direct } } }).exitTrafficGb).toBe(0.09);
  expect(estimate({ resource: { aws_instance: { a: split } } }).exitTrafficGb).toBe(0.135);
  const gateway = { aws_nat_gateway: { n: {} }, aws_instance: { a: direct } };
  expect(estimate({ resource: gateway }).exitTrafficGb).toBe(0.135);
});

test("the schema for editors is that of the configuration: `npm run config-schema` writes it", () => {
  const file = join(__dirname, "../../sallyport.config.schema.json");
  expect(JSON.parse(readFileSync(file, "utf8"))).toEqual(JSON.parse(JSON.stringify(configJsonSchema())));
});
