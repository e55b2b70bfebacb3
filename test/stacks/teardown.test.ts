import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runApp } from "./app.ts";
import { APPS } from "./apps.ts";

/** What lends something to a resource that does not refer to it: by which attribute, and only where that is set. */
const LENT: Readonly<Record<string, string>> = {
  aws_iam_role_policy: "role",
  aws_vpc_security_group_egress_rule: "security_group_id",
  aws_route: "route_table_id",
  aws_route_table_association: "subnet_id",
  aws_eip_association: "network_interface_id",
};
const NODES = ["aws_instance", "aws_autoscaling_group"];

const folder = mkdtempSync(join(tmpdir(), "sallyport-teardown-"));
afterAll(() => rmSync(folder, { recursive: true }));

test.each([
  ...APPS,
  {
    what: "exit-node-stack self-healing in a network that exists",
    main: "stacks/main.ts",
    config: {
      ...{ egress: "existing-nat", selfHealing: true, loginServer: "https://control.example.com" },
      network: { vpcId: "vpc-0a", publicSubnetId: "subnet-0a", privateSubnetId: "subnet-0b" },
    },
  },
])(
  "$what: a node is taken down before its rights, its rules and its routes, so it can still log out",
  ({ main, config = {} }) => {
    const appFolder = mkdtempSync(join(folder, "app-"));
    const { status, stderr, stacks } = runApp(main, appFolder, { config: JSON.stringify(config) });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    for (const { json } of Object.values(stacks)) expect(removedTooEarly(json)).toEqual([]);
  },
  60_000,
);

/** NODE: RESOURCE, for whatever Terraform may remove while the node is still there. */
function removedTooEarly(json: Readonly<Record<string, unknown>>): readonly string[] {
  const graph = graphOf(json);
  const nodes = [...graph.keys()].filter((address) => NODES.includes(address.split(".")[0] ?? ""));
  return nodes.flatMap((node) => {
    const outlive = closure(graph, node);
    return [...graph]
      .filter(([address, { lentTo }]) => lentTo !== undefined && outlive.has(lentTo) && !outlive.has(address))
      .map(([address]) => `${node}: ${address}`);
  });
}

interface Vertex {
  readonly refersTo: readonly string[];
  readonly lentTo: string | undefined;
}

/** Resources, data sources and locals by address, as Terraform reads them from expressions and depends_on. */
function graphOf(json: Readonly<Record<string, unknown>>): ReadonlyMap<string, Vertex> {
  const kinds = (section: string) =>
    Object.entries((json[section] ?? {}) as Readonly<Record<string, Readonly<Record<string, object>>>>);
  const named = (section: string, prefix: string) =>
    kinds(section).flatMap(([type, ones]) =>
      Object.entries(ones).map(([name, value]) => [`${prefix}${type}.${name}`, value] as const),
    );
  const locals = Object.entries((json["locals"] ?? {}) as object).map(
    ([name, value]) => [`local.${name}`, { value: value as unknown }] as const,
  );
  const all: readonly (readonly [string, unknown])[] = [
    ...named("resource", ""),
    ...named("data", "data."),
    ...locals,
  ];
  const addresses = new Set<string>(all.map(([address]) => address));
  const references = (value: unknown): readonly string[] =>
    [...(JSON.stringify(value) ?? "").matchAll(/(?:data\.)?[a-z][a-z0-9_]*\.[\w-]+/g)]
      .map(([address]) => address)
      .filter((address) => addresses.has(address));
  return new Map(
    all.map(([address, value]) => {
      const lender = LENT[address.split(".")[0] ?? ""];
      const borrower = (value as Readonly<Record<string, unknown>>)[lender ?? ""];
      return [address, { refersTo: references(value), lentTo: references(borrower)[0] }];
    }),
  );
}

function closure(graph: ReadonlyMap<string, Vertex>, from: string): ReadonlySet<string> {
  const reached = new Set<string>();
  const open = [from];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (reached.has(next)) continue;
    reached.add(next);
    open.push(...(graph.get(next)?.refersTo ?? []));
  }
  return reached;
}
