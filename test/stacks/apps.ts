/** Every app whose stacks must hold: the configured ones in the shapes that matter, and the examples. */
export interface AppCase {
  readonly what: string;
  readonly main: string;
  /** @default nothing configured */
  readonly config?: Readonly<Record<string, unknown>>;
}

export const APPS: readonly AppCase[] = [
  { what: "exit-node-stack", main: "stacks/main.ts" },
  {
    what: "exit-node-stack with every field set",
    main: "stacks/main.ts",
    config: {
      ...{ regions: ["eu-west-1"], port: 41700, openTunnelPort: false, architecture: "x86_64" },
      ...{ instanceType: "t3.small", machineImageId: "ami-0123456789abcdef0", hostname: "exit-1" },
      ...{ loginServer: "https://control.example.com", authKeyParameter: "/sallyport/key" },
      ...{ address: "elastic", exitTraffic: "web", sessionManager: true, cidrBlock: "10.90.0.0/20" },
      backend: { kind: "s3", bucket: "states", region: "eu-west-1" },
    },
  },
  {
    what: "exit-node-stack self-healing behind a NAT gateway",
    main: "stacks/main.ts",
    config: { egress: "nat-gateway", selfHealing: true },
  },
  {
    what: "exit-node-stack in a network that exists",
    main: "stacks/main.ts",
    config: {
      egress: "existing-nat",
      network: { vpcId: "vpc-0a", publicSubnetId: "subnet-0a", privateSubnetId: "subnet-0b" },
    },
  },
  {
    what: "relay-stack and coordination-stack",
    main: "stacks/main.ts",
    config: { stacks: ["relay-stack", "coordination-stack"] },
  },
  {
    what: "a server of each kind with a certificate of a public authority",
    main: "stacks/main.ts",
    config: {
      stacks: ["exit-node-stack", "relay-stack", "coordination-stack"],
      acme: { termsAgreed: true, email: "admin@example.com" },
    },
  },
  { what: "an alarm of ill health", main: "test/stacks/fixtures/health-alarm.ts" },
  { what: "two nodes behind one address", main: "test/stacks/fixtures/shared-ingress.ts" },
  ...["one-exit-node", "multi-region", "inside-your-stack", "own-relay", "tailscale-network"].map((name) => ({
    what: `the example ${name}`,
    main: `examples/${name}/main.ts`,
  })),
];
