import { TunnelNetwork } from "../../constructs/tunnel-network.ts";
import { synthesize } from "./synthesized.ts";

const network = synthesize((stack) => {
  new TunnelNetwork(stack, "network");
});

test("the VPC has an IPv4 range and one of Amazon's IPv6 ranges", () => {
  expect(network.resource("aws_vpc")).toMatchObject({
    cidr_block: "10.80.0.0/16",
    assign_generated_ipv6_cidr_block: true,
  });
});

test("what is launched in the public subnet gets public addresses of both kinds", () => {
  expect(network.resource("aws_subnet")).toMatchObject({
    map_public_ip_on_launch: true,
    assign_ipv6_address_on_creation: true,
    cidr_block: '${cidrsubnet("10.80.0.0/16", 2, 0)}',
    ipv6_cidr_block: expect.stringMatching(/^\$\{cidrsubnet\(aws_vpc\..+\.ipv6_cidr_block, 8, 0\)\}$/),
  });
});

test("everything leads to the internet gateway, over IPv4 and IPv6", () => {
  const routes = network.resources("aws_route");
  expect(
    routes.map((route) => route["destination_cidr_block"] ?? route["destination_ipv6_cidr_block"]),
  ).toEqual(["0.0.0.0/0", "::/0"]);
  for (const route of routes) {
    expect(route["gateway_id"]).toMatch(/^\$\{aws_internet_gateway\./);
    expect(route["route_table_id"]).toBe(network.resource("aws_route_table_association")["route_table_id"]);
  }
  expect(network.resource("aws_route_table_association")["subnet_id"]).toMatch(/^\$\{aws_subnet\./);
});

test("a range and a zone of one's own are used", () => {
  const own = synthesize((stack) => {
    new TunnelNetwork(stack, "network", { cidrBlock: "192.168.0.0/20", availabilityZone: "eu-west-1b" });
  });
  expect(own.resource("aws_vpc")["cidr_block"]).toBe("192.168.0.0/20");
  expect(own.resource("aws_subnet")).toMatchObject({ availability_zone: "eu-west-1b" });
  expect(own.data("aws_ec2_instance_type_offerings")).toEqual([]);
});

test("its subnets are in one zone that has the node's instance type, and stay there", () => {
  const own = synthesize((stack) => {
    new TunnelNetwork(stack, "network", { instanceType: "c7gn.medium", privateSubnet: true });
  });
  const [offered] = own.data("aws_ec2_instance_type_offerings");
  expect(offered).toMatchObject({
    location_type: "availability-zone",
    filter: expect.arrayContaining([{ name: "instance-type", values: ["c7gn.medium"] }]),
    lifecycle: {
      postcondition: [
        {
          condition: "${length(self.locations) > 0}",
          error_message: expect.stringMatching(
            /No zone of the region has c7gn\.medium: give another instanceType/,
          ),
        },
      ],
    },
  });
  const [privateSubnet, publicSubnet] = own.resources("aws_subnet");
  expect(publicSubnet).toMatchObject({
    availability_zone: expect.stringMatching(
      /^\$\{element\(sort\(data\.aws_ec2_instance_type_offerings\.[\w-]+\.locations\), 0\)\}$/,
    ),
    lifecycle: { ignore_changes: ["availability_zone"] },
  });
  expect(privateSubnet?.["availability_zone"]).toMatch(
    /^\$\{aws_subnet\.[\w-]+PublicSubnet\w*\.availability_zone\}$/,
  );
});

test("local zones, whose names go on after the region's, are not asked for", () => {
  const [offered] = network.data("aws_ec2_instance_type_offerings");
  const filters = offered?.["filter"] as readonly { readonly values: readonly string[] }[] | undefined;
  const locations = filters?.[1]?.values ?? [];
  expect(locations).toHaveLength(6);
  for (const value of locations) expect(value).toMatch(/^\$\{data\.aws_region\.\w+\.id\}[a-f]$/);
});

test.each(["10.80.0.0", "10.80.0.0/8", "10.80.0.0/28", "10.80.0.256/16", "fd00::/16", ""])(
  "the range %j is refused with the prop's name and the remedy",
  (cidrBlock) => {
    expect(() =>
      synthesize((stack) => {
        new TunnelNetwork(stack, "network", { cidrBlock });
      }),
    ).toThrow(/cidrBlock is ".*": give an IPv4 range from \/16 to \/24/);
  },
);
