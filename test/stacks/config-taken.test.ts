import { Testing } from "cdktf";
import fc from "fast-check";
import { ConfigError, parseConfig, STACKS, type StackConfig } from "../../stacks/config.ts";
import { CoordinationStack } from "../../stacks/coordination-stack.ts";
import { ExitNodeStack } from "../../stacks/exit-node-stack.ts";
import { RelayStack } from "../../stacks/relay-stack.ts";
import { testApp } from "../constructs/test-app.ts";

const CLASSES = {
  "exit-node-stack": ExitNodeStack,
  "relay-stack": RelayStack,
  "coordination-stack": CoordinationStack,
} as const;

/** Mostly left out, so that a good part is without contradictions. */
const maybe = <T>(...values: readonly T[]) =>
  fc.oneof(
    { weight: 5, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: fc.constantFrom(...values) },
  );
const IMAGE = "ami-0123456789abcdef0";
const subnets = { vpcId: "vpc-0a", publicSubnetId: "subnet-0a" };
const split = { ...subnets, privateSubnetId: "subnet-0b" };

const configurations = fc.record({
  agent: fc.constantFrom<unknown>({ file: __filename }, { file: __filename }, "image"),
  machineImageId: maybe(IMAGE),
  stacks: fc.subarray([...STACKS], { minLength: 1 }),
  regions: maybe(["eu-west-1"], ["eu-west-1", "cn-north-1"]),
  port: maybe(1, 443, 3478, 65535),
  openTunnelPort: maybe(true, false),
  address: maybe("dynamic", "elastic"),
  egress: maybe("direct", "nat-gateway", "existing-nat"),
  natGatewayId: maybe("nat-0a"),
  architecture: maybe("arm64", "x86_64"),
  instanceType: maybe("t3.small", "c7gn.large", "a1.medium"),
  loginServer: maybe("https://control.example.com", "https://[::1]:8443", "https://a.example?x"),
  authKeyParameter: maybe("/a/b", "k", "a/b", "k".repeat(1200), "/sallyport-x"),
  authKeyRegion: maybe("us-gov-west-1"),
  authKeySecretArn: maybe(
    "arn:aws:secretsmanager:eu-west-1:111122223333:secret:k",
    "arn:aws:secretsmanager:x",
  ),
  hostname: maybe("a".repeat(63)),
  domain: maybe("mesh.example.com"),
  relay: maybe<object>({ regionId: 65535 }, { regionCode: "a".repeat(31) }, { hostname: "r.example.com" }),
  acme: maybe<object>({ termsAgreed: true }, { termsAgreed: true, directory: "https://a.example/$d" }),
  selfHealing: maybe(true),
  keepIdentity: maybe(true, false),
  sessionManager: maybe(true),
  cidrBlock: maybe("10.0.0.0/16", "10.0.0.0/28", "10.0.0.7/24"),
  network: maybe<object>(subnets, split, { ...split, privateRouteTableId: "rtb-0a" }),
});

function make(config: StackConfig): void {
  const app = testApp();
  for (const name of config.stacks) {
    config.regions.forEach((region, index) => {
      Testing.synth(new CLASSES[name](app, `${name}-${region}`, { ...config, region, index }), true);
    });
  }
}

test("what the configuration takes, the constructs and their checks take too", () => {
  let taken = 0;
  fc.assert(
    fc.property(configurations, (content) => {
      let config: StackConfig;
      try {
        config = parseConfig([{ name: "any", content: JSON.stringify(content) }]);
      } catch (error) {
        expect(error).toBeInstanceOf(ConfigError);
        return;
      }
      make(config);
      taken++;
    }),
    { numRuns: 40 },
  );
  expect(taken).toBeGreaterThan(0);
}, 120_000);
