import fc from "fast-check";
import { TunnelFirewall, type TunnelFirewallProps } from "../../constructs/tunnel-firewall.ts";
import { type Attributes, type Synthesized, synthesize } from "./synthesized.ts";

const firewall = (props: Partial<TunnelFirewallProps> = {}): Synthesized =>
  synthesize((stack) => {
    new TunnelFirewall(stack, "firewall", { vpcId: "vpc-1", ...props });
  });

const rule = (attributes: Attributes): string => {
  const { ip_protocol, from_port, to_port, cidr_ipv4, cidr_ipv6 } = attributes;
  return `${String(ip_protocol)}/${String(from_port)}-${String(to_port)} ${String(cidr_ipv4 ?? cidr_ipv6)}`;
};
const rulesIn = (synthesized: Synthesized): readonly string[] =>
  synthesized.resources("aws_vpc_security_group_ingress_rule").map(rule).sort();
const rulesOut = (synthesized: Synthesized): readonly string[] =>
  synthesized.resources("aws_vpc_security_group_egress_rule").map(rule).sort();

test("in: the tunnel's port from anywhere, and nothing else", () => {
  expect(rulesIn(firewall())).toEqual(["udp/41641-41641 0.0.0.0/0", "udp/41641-41641 ::/0"]);
});

test("out: UDP and HTTPS to anywhere, and nothing else", () => {
  expect(rulesOut(firewall())).toEqual([
    "tcp/443-443 0.0.0.0/0",
    "tcp/443-443 ::/0",
    "udp/0-65535 0.0.0.0/0",
    "udp/0-65535 ::/0",
  ]);
});

test("no rule is written inside the group, where it would undo those of others", () => {
  const group = firewall().resource("aws_security_group");
  expect(group).not.toHaveProperty("ingress");
  expect(group).not.toHaveProperty("egress");
});

test("a closed tunnel lets nothing in, and only STUN and HTTPS out, so that no NAT is punched from inside", () => {
  const closed = firewall({ openTunnelPort: false });
  expect(rulesIn(closed)).toEqual([]);
  expect([...rulesOut(closed)].sort()).toEqual([
    "tcp/443-443 0.0.0.0/0",
    "tcp/443-443 ::/0",
    "udp/3478-3478 0.0.0.0/0",
    "udp/3478-3478 ::/0",
  ]);
});

test("any port from 1 to 65535 is opened, alone", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 65535 }), (port) => {
      expect(rulesIn(firewall({ port }))).toEqual([
        `udp/${port}-${port} 0.0.0.0/0`,
        `udp/${port}-${port} ::/0`,
      ]);
    }),
    { numRuns: 20, examples: [[1], [65535]] },
  );
});

test.each([0, 65536, -1, 1.5, NaN, Infinity])(
  "port %p is refused with the prop's name and the remedy",
  (port) => {
    expect(() => firewall({ port })).toThrow(
      `TunnelFirewall port is ${port}: give a whole number from 1 to 65535`,
    );
  },
);
