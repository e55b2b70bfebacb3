/** An instance in a namespace: real addresses, real names, real certificates. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { requires } from "../../skip.ts";
import { exitNodeCloud } from "./exit-node-cloud.ts";
import { REGION } from "./memory-cloud.ts";
import { ENDPOINT_IP, isRoot, ServiceWorld } from "./world.ts";

const testAsRoot = requires("root", isRoot, "namespaces need Linux and root: run the tests as root");

let world: ServiceWorld | undefined;
afterEach(async () => {
  await world?.close();
  world = undefined;
});

async function start(options?: Parameters<ServiceWorld["serve"]>[1]) {
  const made = exitNodeCloud(() => ({}));
  world = new ServiceWorld();
  const services = await world.serve(made.cloud, options);
  return { ...made, services, world };
}

const BASE = "http://169.254.169.254/latest";
/** Prints the metadata of these paths, each on a line. */
const metadata = (...paths: string[]) => [
  "sh",
  "-ec",
  [
    `token=$(curl -sSf --max-time 3 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' ${BASE}/api/token)`,
    ...paths.map(
      (path) => `curl -sSf --max-time 3 -H "X-aws-ec2-metadata-token: $token" ${BASE}/${path}; echo`,
    ),
  ].join("\n"),
];

testAsRoot("curl on the instance reads its metadata with a token, and without one gets 401", async () => {
  const { world } = await start();
  const read = await world.run(metadata("meta-data/instance-id", "meta-data/placement/region"));
  expect(read).toEqual({ status: 0, stdout: `i-own\n${REGION}\n`, stderr: "" });
  const bare = await world.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", `${BASE}/meta-data/`]);
  expect(bare.stdout).toBe("401");
});

testAsRoot(
  "a token gets no further than the hop limit: a container behind the instance waits in vain",
  async () => {
    const { world, cloud } = await start();
    const inContainer = { where: "container" };
    expect(await world.run(metadata("meta-data/instance-id"), inContainer)).toMatchObject({
      status: 28,
      stdout: "",
    });
    // What needs no token does get there: it is the answer to PUT that is kept back.
    const bare = [
      "curl",
      "-s",
      "-o",
      "/dev/null",
      "-w",
      "%{http_code}",
      "--max-time",
      "3",
      `${BASE}/meta-data/`,
    ];
    expect((await world.run(bare, inContainer)).stdout).toBe("401");
    const own = cloud.region.instances.get("i-own");
    if (own !== undefined) Object.assign(own.metadataOptions, { httpPutResponseHopLimit: 2 });
    expect(await world.run(metadata("meta-data/instance-id"), inContainer)).toMatchObject({
      stdout: "i-own\n",
    });
  },
);

testAsRoot(
  "AWS's own clients find role, region, names and trust by themselves, and are judged by the policy",
  async () => {
    const { world, cloud, services } = await start();
    cloud.region.addParameter("/mine/key", "x");
    const tag = (id: string) => [
      "ec2",
      "CreateTags",
      { Resources: [id], Tags: [{ Key: "sallyport:health", Value: "ok" }] },
    ];
    const calls = [tag("i-own"), tag("i-other"), ["ssm", "GetParameter", { Name: "/mine/key" }]];
    const program = [
      process.execPath,
      join(__dirname, "sdk-call.mjs"),
      ...calls.map((call) => JSON.stringify(call)),
    ];
    const ran = await world.run(program, {
      env: { AWS_REGION: REGION, AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: "true" },
    });
    expect(ran).toEqual({
      status: 0,
      stdout:
        "ec2:CreateTags ok\nec2:CreateTags UnauthorizedOperation\nssm:GetParameter AccessDeniedException\n",
      stderr: "",
    });
    expect(cloud.region.instances.get("i-own")?.tags).toMatchObject({ "sallyport:health": "ok" });
    expect(services.calls.map(({ instanceId }) => instanceId)).toEqual(["i-own", "i-own", "i-own"]);
  },
);

testAsRoot("names are those of AWS and of the scenario; others do not exist", async () => {
  const { world } = await start({
    hosts: (name) => (name === "laptop.example.com" ? ["203.0.113.21"] : undefined),
  });
  const program = `
    const { Resolver } = require("node:dns").promises;
    const resolver = new Resolver();
    (async () => {
      for (const name of process.argv.slice(1)) {
        process.stdout.write(name + " " + await resolver.resolve4(name).then(String, (error) => error.code) + "\\n");
      }
    })();`;
  const names = [
    ...["ec2", "autoscaling", "ssm", "secretsmanager", "bucket.with.dots.s3"].map(
      (label) => `${label}.${REGION}.amazonaws.com`,
    ),
    "laptop.example.com",
    "ip-10-0-1-10.eu-west-1.compute.internal",
    "ec2-198-18-10-10.eu-west-1.compute.amazonaws.com",
    "ec2.us-east-1.amazonaws.com",
    "x.ec2.eu-west-1.amazonaws.com",
    "example.com",
  ];
  const { stdout } = await world.run([process.execPath, "-e", program, ...names]);
  const answers = [
    ...Array(5).fill(ENDPOINT_IP),
    "203.0.113.21",
    "10.0.1.10",
    "198.18.10.10",
    ...Array(3).fill("ENOTFOUND"),
  ];
  expect(stdout).toBe(names.map((name, i) => `${name} ${answers[i]}\n`).join(""));
});

testAsRoot(
  "who does not trust the lab's authority does not talk to it; its certificate is for the name alone",
  async () => {
    const { world, services } = await start();
    const url = `https://ec2.${REGION}.amazonaws.com/`;
    const untrusting = await world.run(["curl", "-s", url], {
      env: { CURL_CA_BUNDLE: "/etc/ssl/certs/ca-certificates.crt" },
    });
    expect(untrusting.status).toBe(60);
    const other = `ec2.eu-west-2.amazonaws.com:443:ec2.${REGION}.amazonaws.com:443`;
    const elsewhere = await world.run([
      "curl",
      "-s",
      "--connect-to",
      other,
      "https://ec2.eu-west-2.amazonaws.com/",
    ]);
    expect(elsewhere).toMatchObject({
      status: 0,
      stdout: "the lab has no endpoint ec2.eu-west-2.amazonaws.com\n",
    });
    const trusting = await world.run(["curl", "-s", `${url}?Action=DescribeRegions&Version=2016-11-15`]);
    expect(trusting.stdout).toContain("<Code>MissingAuthenticationToken</Code>");
    expect(services.calls).toMatchObject([
      { action: "ec2:DescribeRegions", outcome: "MissingAuthenticationToken" },
    ]);
  },
);

testAsRoot(
  "an object is handed out to whoever may have it, whole; an object that is not there is not told apart",
  async () => {
    const { world, cloud, resolve, synthesized } = await start();
    const file = join(world.folder, "object");
    writeFileSync(file, "x".repeat(3_000_000));
    const key = resolve(String(synthesized.resource("aws_s3_object")["key"]));
    cloud.region.buckets.set("lab-bucket", {
      name: "lab-bucket",
      objects: new Map([
        [key, { file, etag: "e" }],
        ["other", { file, etag: "e" }],
      ]),
    });
    const get = (path: string) => [
      "bash",
      "-ec",
      `${metadata()[2]}
    credentials=$(curl -sSf -H "X-aws-ec2-metadata-token: $token" ${BASE}/meta-data/iam/security-credentials/exit-role)
    of() { echo "$credentials" | sed -n 's/.*"'$1'" *: *"\\([^"]*\\)".*/\\1/p'; }
    curl -s -w '%{http_code}' --aws-sigv4 aws:amz:${REGION}:s3 -u "$(of AccessKeyId):$(of SecretAccessKey)" \
      -H "x-amz-security-token: $(of Token)" -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' \
      https://lab-bucket.s3.${REGION}.amazonaws.com/${path} | tail -c 900`,
    ];
    expect((await world.run(get(key))).stdout).toMatch(/^x+200$/);
    expect((await world.run(get("other"))).stdout).toMatch(/<Code>AccessDenied<.*403$/s);
    cloud.region.buckets.set("lab-bucket", { name: "lab-bucket", objects: new Map() });
    expect((await world.run(get(key))).stdout).toMatch(/<Code>AccessDenied<.*403$/s);
  },
);
