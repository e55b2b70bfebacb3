/** AWS's own clients against the lab's endpoints, each call judged by the policy that an exit node's stack gives it. */
import {
  AutoScalingClient,
  CompleteLifecycleActionCommand,
  DescribeAutoScalingGroupsCommand,
  RecordLifecycleActionHeartbeatCommand,
  SetInstanceHealthCommand,
  StartInstanceRefreshCommand,
} from "@aws-sdk/client-auto-scaling";
import {
  AttachNetworkInterfaceCommand,
  AttachVolumeCommand,
  CreateTagsCommand,
  DescribeInstancesCommand,
  DescribeNetworkInterfacesCommand,
  DescribeRegionsCommand,
  DescribeTagsCommand,
  DescribeVolumesCommand,
  DetachNetworkInterfaceCommand,
  DetachVolumeCommand,
  EC2Client,
  TerminateInstancesCommand,
} from "@aws-sdk/client-ec2";
import { GetSecretValueCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { GetParameterCommand, PutParameterCommand, SSMClient } from "@aws-sdk/client-ssm";
import { AuthKey } from "../../../constructs/auth-key.ts";
import { type Services, startLoopbackServices } from "../../../lab/services/services.ts";
import { ACCOUNT, REGION } from "./memory-cloud.ts";
import { exitNodeCloud } from "./exit-node-cloud.ts";

process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] = "true";
const KEY = `arn:aws:kms:${REGION}:${ACCOUNT}:key/mine`;
const open: Services[] = [];
afterEach(async () => {
  for (const services of open.splice(0)) await services.close();
});

async function serve(options: Parameters<typeof startLoopbackServices>[0]): Promise<Services> {
  const services = await startLoopbackServices(options);
  open.push(services);
  return services;
}

/** Clients with the credentials of the instance whose metadata these services show. */
async function clientsOf(services: Services, credentials?: Services["user"]) {
  const config = {
    region: REGION,
    endpoint: services.environment["AWS_ENDPOINT_URL"] ?? "",
    credentials: credentials ?? (await roleCredentials(services)),
    maxAttempts: 1,
  };
  return {
    ec2: new EC2Client(config),
    autoscaling: new AutoScalingClient(config),
    ssm: new SSMClient(config),
    secrets: new SecretsManagerClient(config),
  };
}

async function roleCredentials(services: Services) {
  const base = services.environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] ?? "";
  const ttl = { "x-aws-ec2-metadata-token-ttl-seconds": "60" };
  const token = await (await fetch(`${base}/latest/api/token`, { method: "PUT", headers: ttl })).text();
  const ask = async (path: string) =>
    (
      await fetch(`${base}/latest/meta-data/${path}`, { headers: { "x-aws-ec2-metadata-token": token } })
    ).text();
  const role = await ask("iam/security-credentials/");
  const found = JSON.parse(await ask(`iam/security-credentials/${role}`)) as Record<string, string>;
  return {
    accessKeyId: found["AccessKeyId"] ?? "",
    secretAccessKey: found["SecretAccessKey"] ?? "",
    sessionToken: found["Token"] ?? "",
  };
}

/** What a call comes to: "ok", or the error's name. */
const outcome = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => "ok",
    (error: Error) => error.name,
  );

const tagging = (id: string, tags: Readonly<Record<string, string>>, DryRun = false) =>
  new CreateTagsCommand({
    Resources: [id],
    Tags: Object.entries(tags).map(([Key, Value]) => ({ Key, Value })),
    DryRun,
  });

describe("a single exit node", () => {
  const start = async (instanceId = "i-own") => {
    const { cloud } = exitNodeCloud((stack) => ({
      loginServer: "https://login.example.com",
      authKey: new AuthKey(stack, "key", { parameterName: "/mine/key", kmsKeyArn: KEY }),
    }));
    cloud.region.addParameter("/mine/key", "spkey-1", KEY);
    cloud.region.addParameter("/mine/other", "secret");
    const services = await serve({ cloud, instanceId });
    return { cloud, services, ...(await clientsOf(services)) };
  };

  test("writes its own health tags, and no others on nobody else", async () => {
    const { ec2, cloud, services } = await start();
    expect(
      await outcome(ec2.send(tagging("i-own", { "sallyport:health": "ok", "sallyport:path": "" }))),
    ).toBe("ok");
    expect(cloud.region.instances.get("i-own")?.tags).toEqual({
      Name: "exit",
      "sallyport:health": "ok",
      "sallyport:path": "",
    });
    for (const refused of [
      tagging("i-own", { Name: "mine" }),
      tagging("i-own", { "sallyport:health": "ok", Name: "mine" }),
      tagging("i-other", { "sallyport:health": "ok" }),
      tagging("eni-own", { "sallyport:health": "ok" }),
    ]) {
      expect(await outcome(ec2.send(refused))).toBe("UnauthorizedOperation");
    }
    expect(services.calls.map((call) => call.outcome)).toEqual([
      "ok",
      ...Array(4).fill("UnauthorizedOperation"),
    ]);
    expect(services.calls[1]).toMatchObject({
      action: "ec2:CreateTags",
      instanceId: "i-own",
      region: REGION,
    });
  });

  test("a refusal says who may not do what, and has AWS's encoded message", async () => {
    const { ec2 } = await start();
    await expect(ec2.send(tagging("i-other", { "sallyport:health": "ok" }))).rejects.toMatchObject({
      $metadata: { httpStatusCode: 403 },
      message: expect.stringMatching(
        new RegExp(
          `^You are not authorized to perform this operation\\. User: arn:aws:sts::${ACCOUNT}:assumed-role/exit-role/i-own ` +
            `is not authorized to perform: ec2:CreateTags on resource: arn:aws:ec2:${REGION}:${ACCOUNT}:instance/i-other ` +
            "because no identity-based policy allows the ec2:CreateTags action\\. Encoded authorization failure message: \\S+$",
        ),
      ),
    });
  });

  test("finds out by DryRun what it may do, and nothing happens", async () => {
    const { ec2, cloud } = await start();
    const tags = { "sallyport:health": "ok" };
    expect(await outcome(ec2.send(tagging("i-own", tags, true)))).toBe("DryRunOperation");
    expect(await outcome(ec2.send(tagging("i-other", tags, true)))).toBe("UnauthorizedOperation");
    expect(cloud.region.instances.get("i-own")?.tags).toEqual({ Name: "exit" });
  });

  test("reads its auth key and decrypts it with the key that it is encrypted with; no other, and it writes none", async () => {
    const { ssm } = await start();
    const read = await ssm.send(new GetParameterCommand({ Name: "/mine/key", WithDecryption: true }));
    expect(read.Parameter).toMatchObject({ Name: "/mine/key", Type: "SecureString", Value: "spkey-1" });
    const { ARN = "" } = read.Parameter ?? {};
    const byArn = await ssm.send(new GetParameterCommand({ Name: ARN, WithDecryption: true }));
    expect(byArn.Parameter).toEqual(read.Parameter);
    const raw = await ssm.send(new GetParameterCommand({ Name: "/mine/key" }));
    expect(raw.Parameter?.Value).not.toContain("spkey-1");
    const denied = [
      new GetParameterCommand({ Name: "/mine/other", WithDecryption: true }),
      new PutParameterCommand({ Name: "/mine/key", Value: "x", Overwrite: true }),
    ];
    expect(await outcome(ssm.send(denied[0] as GetParameterCommand))).toBe("AccessDeniedException");
    expect(await outcome(ssm.send(denied[1] as PutParameterCommand))).toBe("AccessDeniedException");
  });

  test("may not look around", async () => {
    const { ec2, autoscaling, secrets } = await start();
    expect(await outcome(ec2.send(new DescribeInstancesCommand({})))).toBe("UnauthorizedOperation");
    expect(await outcome(ec2.send(new DescribeNetworkInterfacesCommand({})))).toBe("UnauthorizedOperation");
    expect(await outcome(autoscaling.send(new DescribeAutoScalingGroupsCommand({})))).toBe("AccessDenied");
    expect(await outcome(secrets.send(new GetSecretValueCommand({ SecretId: "mine" })))).toBe(
      "AccessDeniedException",
    );
  });

  test("another instance's role may not do what this one may", async () => {
    const { ec2, ssm } = await start("i-other");
    expect(await outcome(ec2.send(tagging("i-own", { "sallyport:health": "ok" })))).toBe(
      "UnauthorizedOperation",
    );
    expect(await outcome(ssm.send(new GetParameterCommand({ Name: "/mine/key" })))).toBe(
      "AccessDeniedException",
    );
  });
});

test("a secret of Secrets Manager is read by the role that names it, where it may decrypt", async () => {
  const arn = `arn:aws:secretsmanager:${REGION}:${ACCOUNT}:secret:key-AbCdEf`;
  const { cloud } = exitNodeCloud((stack) => ({
    loginServer: "https://login.example.com",
    authKey: new AuthKey(stack, "key", { secretArn: arn }),
  }));
  cloud.region.secrets.set(arn, { arn, name: "key", value: "spkey-2" });
  const { secrets } = await clientsOf(await serve({ cloud, instanceId: "i-own" }));
  const command = new GetSecretValueCommand({ SecretId: arn });
  expect(await secrets.send(command)).toMatchObject({ SecretString: "spkey-2", Name: "key" });
  cloud.region.secrets.set(arn, { arn, name: "key", value: "spkey-2", kmsKeyArn: KEY });
  expect(await outcome(secrets.send(command))).toBe("AccessDeniedException");
});

describe("a self-healing exit node", () => {
  const start = async () => {
    const { cloud, groupName } = exitNodeCloud(() => ({
      egress: "nat-gateway",
      selfHealing: true,
    }));
    const services = await serve({ cloud, instanceId: "i-own" });
    return { cloud, groupName, services, ...(await clientsOf(services)) };
  };

  test("finds and takes its ingress interface, and gives it back", async () => {
    const { ec2, cloud } = await start();
    const found = await ec2.send(
      new DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: ["eni-ingress"] }),
    );
    expect(found.NetworkInterfaces).toMatchObject([
      { Status: "available", PrivateIpAddress: "10.0.0.10", Association: { PublicIp: "198.18.10.10" } },
    ]);
    const attach = new AttachNetworkInterfaceCommand({
      ...{ NetworkInterfaceId: "eni-ingress", InstanceId: "i-own", DeviceIndex: 1 },
    });
    const { AttachmentId } = await ec2.send(attach);
    expect(cloud.region.instances.get("i-own")?.interfaces.map(({ id }) => id)).toEqual([
      "eni-own",
      "eni-ingress",
    ]);
    expect(await outcome(ec2.send(attach))).toBe("InvalidNetworkInterface.InUse");
    await ec2.send(new DetachNetworkInterfaceCommand({ AttachmentId, Force: true }));
    expect(cloud.region.interfaces.get("eni-ingress")?.attachment).toBeUndefined();
  });

  test("takes no other interface, and puts its own on no instance of another group", async () => {
    const { ec2 } = await start();
    const attach = (NetworkInterfaceId: string, InstanceId: string) =>
      outcome(
        ec2.send(new AttachNetworkInterfaceCommand({ NetworkInterfaceId, InstanceId, DeviceIndex: 1 })),
      );
    expect(await attach("eni-foreign", "i-own")).toBe("UnauthorizedOperation");
    expect(await attach("eni-ingress", "i-other")).toBe("UnauthorizedOperation");
    expect(await attach("eni-ingress", "i-nobody")).toBe("UnauthorizedOperation");
    expect(await attach("eni-ingress", "i-own")).toBe("ok");
  });

  test("takes its identity volume from whoever had it, and no other", async () => {
    const { ec2, cloud } = await start();
    const attach = (VolumeId: string) =>
      outcome(ec2.send(new AttachVolumeCommand({ VolumeId, InstanceId: "i-own", Device: "/dev/sdf" })));
    expect(await attach("vol-identity")).toBe("ok");
    expect(await attach("vol-identity")).toBe("VolumeInUse");
    expect(await attach("vol-foreign")).toBe("UnauthorizedOperation");
    const detach = (VolumeId: string) => outcome(ec2.send(new DetachVolumeCommand({ VolumeId })));
    expect(await detach("vol-identity")).toBe("ok");
    expect(await detach("vol-identity")).toBe("IncorrectState");
    expect(await detach("vol-foreign")).toBe("UnauthorizedOperation");
    expect(cloud.region.volumes.get("vol-identity")?.attachment).toBeUndefined();
    // Its policy lets it detach the volume, not look at it.
    expect(await outcome(ec2.send(new DescribeVolumesCommand({})))).toBe("UnauthorizedOperation");
  });

  test("answers its own group's hooks, and reports itself ill", async () => {
    const { autoscaling, cloud, groupName } = await start();
    const hook = {
      AutoScalingGroupName: groupName,
      LifecycleHookName: `${groupName}-launch`,
      InstanceId: "i-own",
    };
    await autoscaling.send(new RecordLifecycleActionHeartbeatCommand(hook));
    await autoscaling.send(
      new CompleteLifecycleActionCommand({ ...hook, LifecycleActionResult: "CONTINUE" }),
    );
    await autoscaling.send(new SetInstanceHealthCommand({ InstanceId: "i-own", HealthStatus: "Unhealthy" }));
    expect(cloud.region.lifecycle).toEqual([
      `${groupName}-launch i-own heartbeat`,
      `${groupName}-launch i-own CONTINUE`,
      "i-own Unhealthy",
    ]);
  });

  test("nothing of another group", async () => {
    const { autoscaling, cloud } = await start();
    cloud.region.addGroup("yours", ["i-other"]);
    const foreign = {
      AutoScalingGroupName: "yours",
      LifecycleHookName: "yours-launch",
      InstanceId: "i-other",
    };
    for (const command of [
      new CompleteLifecycleActionCommand({ ...foreign, LifecycleActionResult: "ABANDON" }),
      new RecordLifecycleActionHeartbeatCommand(foreign),
    ]) {
      expect(await outcome(autoscaling.send(command as CompleteLifecycleActionCommand))).toBe("AccessDenied");
    }
    const ill = new SetInstanceHealthCommand({ InstanceId: "i-other", HealthStatus: "Unhealthy" });
    expect(await outcome(autoscaling.send(ill))).toBe("AccessDenied");
    expect(cloud.region.lifecycle).toEqual([]);
  });

  test("a hook or an instance that is not there is a validation error", async () => {
    const { autoscaling, groupName } = await start();
    const complete = (LifecycleHookName: string, InstanceId: string) =>
      outcome(
        autoscaling.send(
          new CompleteLifecycleActionCommand({
            ...{
              AutoScalingGroupName: groupName,
              LifecycleHookName,
              InstanceId,
              LifecycleActionResult: "CONTINUE",
            },
          }),
        ),
      );
    expect(await complete("no-hook", "i-own")).toBe("ValidationError");
    expect(await complete(`${groupName}-launch`, "i-other")).toBe("ValidationError");
  });
});

describe("the join token of a coordination server", () => {
  test("is written over the parameter that the stack made, and not read back", async () => {
    const { cloud } = exitNodeCloud(() => ({
      address: "elastic",
      coordination: { joinParameterName: "/mine/join" },
    }));
    cloud.region.addParameter("/mine/join", "pending");
    const { ssm } = await clientsOf(await serve({ cloud, instanceId: "i-own" }));
    const put = (Overwrite: boolean) =>
      ssm.send(
        new PutParameterCommand({ Name: "/mine/join", Value: "token", Type: "SecureString", Overwrite }),
      );
    expect(await outcome(put(false))).toBe("ParameterAlreadyExists");
    expect(await put(true)).toMatchObject({ Version: 2 });
    expect(cloud.region.parameters.get("/mine/join")?.value).toBe("token");
    expect(await outcome(ssm.send(new GetParameterCommand({ Name: "/mine/join" })))).toBe(
      "AccessDeniedException",
    );
  });
});

describe("a person", () => {
  const start = async () => {
    const { cloud, groupName } = exitNodeCloud(() => ({
      egress: "nat-gateway",
      selfHealing: true,
    }));
    const services = await serve({ cloud, instanceId: "i-own" });
    return { cloud, groupName, services, ...(await clientsOf(services, services.user)) };
  };

  test("sees all instances, page by page", async () => {
    const { cloud, ec2 } = await start();
    for (let i = 0; i < 10; i++) cloud.region.addInstance({ id: `i-more${i}`, ip: `10.0.1.${100 + i}` });
    const ids: (string | undefined)[] = [];
    let pages = 0;
    let NextToken: string | undefined;
    do {
      const answer = await ec2.send(
        new DescribeInstancesCommand({ MaxResults: 5, ...(NextToken && { NextToken }) }),
      );
      for (const { Instances = [] } of answer.Reservations ?? [])
        ids.push(...Instances.map((one) => one.InstanceId));
      NextToken = answer.NextToken;
      pages++;
    } while (NextToken !== undefined);
    expect(pages).toBe(3);
    expect(new Set(ids)).toEqual(new Set(cloud.region.instances.keys()));
    expect(await outcome(ec2.send(new DescribeInstancesCommand({ NextToken: "xx" })))).toBe(
      "InvalidNextToken",
    );
  });

  test("chooses by filters, and is told of one that the lab does not know", async () => {
    const { ec2, cloud } = await start();
    cloud.region.createTags("i-own", { "sallyport:health": "ok" });
    const find = async (Name: string, ...Values: string[]) => {
      const { Reservations = [] } = await ec2.send(
        new DescribeInstancesCommand({ Filters: [{ Name, Values }] }),
      );
      return Reservations.flatMap(({ Instances = [] }) => Instances.map(({ InstanceId }) => InstanceId));
    };
    expect(await find("tag-key", "sallyport:health")).toEqual(["i-own"]);
    expect(await find("tag:Name", "ot*")).toEqual(["i-other"]);
    expect(await find("instance-state-name", "running", "pending")).toEqual(["i-own", "i-other"]);
    expect(await find("instance-state-name", "stopped")).toEqual([]);
    await expect(find("host-id", "x")).rejects.toMatchObject({ name: "InvalidParameterValue" });
  });

  test("sees tags, regions, volumes and groups", async () => {
    const { ec2, autoscaling, groupName } = await start();
    const tags = await ec2.send(new DescribeTagsCommand({ Filters: [{ Name: "key", Values: ["Name"] }] }));
    expect(tags.Tags).toEqual([
      { Key: "Name", ResourceId: "i-own", ResourceType: "instance", Value: "exit" },
      { Key: "Name", ResourceId: "i-other", ResourceType: "instance", Value: "other" },
    ]);
    const regions = await ec2.send(new DescribeRegionsCommand({}));
    expect(regions.Regions?.map(({ RegionName }) => RegionName)).toEqual([REGION]);
    const volumes = await ec2.send(new DescribeVolumesCommand({ VolumeIds: ["vol-identity"] }));
    expect(volumes.Volumes).toMatchObject([
      { VolumeId: "vol-identity", State: "available", Attachments: [] },
    ]);
    const { AutoScalingGroups } = await autoscaling.send(new DescribeAutoScalingGroupsCommand({}));
    expect(AutoScalingGroups).toMatchObject([
      {
        AutoScalingGroupName: groupName,
        Instances: [{ InstanceId: "i-own", LifecycleState: "Pending:Wait" }],
      },
    ]);
  });

  test.each<[string, Readonly<Record<string, string>>, string]>([
    ["the fiftieth tag", Object.fromEntries(Array.from({ length: 49 }, (_, i) => [`k${i}`, ""])), "ok"],
    [
      "one too many",
      Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`k${i}`, ""])),
      "TagLimitExceeded",
    ],
    ["a value of 256 characters", { k: "v".repeat(256) }, "ok"],
    ["one of 257", { k: "v".repeat(257) }, "InvalidParameterValue"],
    ["a key of Amazon's", { "aws:x": "y" }, "InvalidParameterValue"],
  ])("tags an instance: %s", async (_, tags, result) => {
    const { ec2 } = await start();
    expect(await outcome(ec2.send(tagging("i-other", tags)))).toBe(result);
  });

  test("ends an instance and refreshes a group, which the node's own role may not", async () => {
    const { ec2, autoscaling, cloud, groupName, services } = await start();
    const end = new TerminateInstancesCommand({ InstanceIds: ["i-other"] });
    const refresh = new StartInstanceRefreshCommand({ AutoScalingGroupName: groupName });
    const own = await clientsOf(services);
    expect(await outcome(own.ec2.send(end))).toBe("UnauthorizedOperation");
    expect(await outcome(own.autoscaling.send(refresh))).toBe("AccessDenied");
    expect((await ec2.send(end)).TerminatingInstances).toMatchObject([
      {
        InstanceId: "i-other",
        PreviousState: { Name: "running" },
        CurrentState: { Name: "terminated", Code: 48 },
      },
    ]);
    expect(await autoscaling.send(refresh)).toMatchObject({ InstanceRefreshId: "refresh-1" });
    expect(cloud.region.lifecycle).toEqual([`${groupName} refresh`]);
    expect(await outcome(ec2.send(tagging("i-other", { a: "b" })))).toBe("InvalidID");
  });

  test("is told what the lab does not know, rather than that it was done", async () => {
    const { ec2 } = await start();
    const asked = new DescribeInstancesCommand({ IncludeManagedResources: true });
    expect(await outcome(ec2.send(asked))).toBe("UnknownParameter");
  });
});

describe("who asks", () => {
  const start = async (now?: () => number) => {
    const { cloud } = exitNodeCloud(() => ({}));
    return serve({ cloud, instanceId: "i-own", ...(now === undefined ? {} : { now }) });
  };
  const ask = async (services: Services, credentials: Awaited<ReturnType<typeof roleCredentials>>) => {
    const { ec2, ssm, autoscaling } = await clientsOf(services, credentials);
    return [
      await outcome(ec2.send(tagging("i-own", { "sallyport:health": "ok" }))),
      await outcome(ssm.send(new GetParameterCommand({ Name: "x" }))),
      await outcome(autoscaling.send(new DescribeAutoScalingGroupsCommand({}))),
    ];
  };

  test("with another secret is refused", async () => {
    const services = await start();
    const own = await roleCredentials(services);
    const answers = await ask(services, { ...own, secretAccessKey: "another" });
    expect(answers).toEqual(["SignatureDoesNotMatch", "InvalidSignatureException", "SignatureDoesNotMatch"]);
  });

  test("with a key that nobody has is refused", async () => {
    const services = await start();
    const own = await roleCredentials(services);
    const answers = await ask(services, { ...own, accessKeyId: "ASIANOBODY" });
    expect(answers).toEqual(["AuthFailure", "UnrecognizedClientException", "InvalidClientTokenId"]);
  });

  test("without the session's token is refused", async () => {
    const services = await start();
    const own = await roleCredentials(services);
    const answers = await ask(services, { ...own, sessionToken: "another" });
    expect(answers).toEqual(["AuthFailure", "UnrecognizedClientException", "InvalidClientTokenId"]);
  });

  test("with credentials whose time is over is refused, and finds new ones long before", async () => {
    let clock = Date.now();
    const services = await start(() => clock);
    const first = await roleCredentials(services);
    clock += 4 * 3_600_000;
    const second = await roleCredentials(services);
    expect(second.accessKeyId).not.toBe(first.accessKeyId);
    clock = Date.now() + 6 * 3_600_000 + 1000;
    expect(await ask(services, first)).toEqual(["RequestExpired", "ExpiredTokenException", "ExpiredToken"]);
  });

  test("with a clock six minutes off is refused", async () => {
    let clock = Date.now();
    const services = await start(() => clock);
    const own = await roleCredentials(services);
    clock += 6 * 60_000;
    expect(await ask(services, own)).toEqual([
      "RequestExpired",
      "InvalidSignatureException",
      "SignatureDoesNotMatch",
    ]);
  });

  test("too often is told to wait, as often as a test wants it", async () => {
    const services = await start();
    const { ec2 } = await clientsOf(services);
    services.throttle({ action: "ec2:CreateTags", calls: 2 });
    const ask = () => outcome(ec2.send(tagging("i-own", { "sallyport:health": "ok" })));
    expect([await ask(), await ask(), await ask()]).toEqual([
      "RequestLimitExceeded",
      "RequestLimitExceeded",
      "ok",
    ]);
  });
});
