import { Credentials } from "../../../lab/services/credentials.ts";
import type { HttpRequest } from "../../../lab/services/http.ts";
import { Metadata } from "../../../lab/services/metadata.ts";
import { MemoryCloud } from "./memory-cloud.ts";

const START = Date.UTC(2026, 0, 2, 3, 4, 5);

function setUp() {
  const cloud = new MemoryCloud();
  cloud.addRole("exit-role");
  const instance = cloud.region.addInstance({
    ...{
      id: "i-own",
      role: "exit-role",
      userData: "#!/bin/bash\n",
      tags: { Name: "exit", "sallyport:path": "x" },
    },
  });
  cloud.region.addInterface({ id: "eni-ingress", publicIp: "198.18.10.10" });
  const clock = { now: START };
  const metadata = new Metadata({ cloud, credentials: new Credentials(), now: () => clock.now });
  const send = (
    method: string,
    path: string,
    headers: Readonly<Record<string, string>> = {},
    who = instance,
  ) => {
    const request: HttpRequest = {
      method,
      path,
      query: "",
      headers,
      body: new Uint8Array(),
      from: "10.0.1.10",
    };
    return metadata.answer(request, who);
  };
  const token = (ttl = "300", who = instance) =>
    String(send("PUT", "/latest/api/token", { "x-aws-ec2-metadata-token-ttl-seconds": ttl }, who).body);
  const get = (path: string, bearer = token()) => {
    const answer = send("GET", `/latest/${path}`, { "x-aws-ec2-metadata-token": bearer });
    return answer.status === 200 ? String(answer.body) : answer.status;
  };
  return { cloud, instance, clock, send, token, get };
}

describe("a token", () => {
  test("is needed, by an instance that requires it", () => {
    const { send, get, token } = setUp();
    expect(send("GET", "/latest/meta-data/instance-id").status).toBe(401);
    expect(get("meta-data/instance-id", "made-up")).toBe(401);
    expect(get("meta-data/instance-id", token())).toBe("i-own");
  });

  test("is not needed where version 1 is left on", () => {
    const { send, instance, get } = setUp();
    Object.assign(instance.metadataOptions, { httpTokens: "optional" });
    expect(send("GET", "/latest/meta-data/instance-id")).toMatchObject({ status: 200, body: "i-own" });
    expect(get("meta-data/instance-id", "made-up")).toBe(401);
  });

  test("ends when its time is over", () => {
    const { get, token, clock } = setUp();
    const bearer = token("60");
    clock.now += 59_999;
    expect(get("meta-data/instance-id", bearer)).toBe("i-own");
    clock.now += 1;
    expect(get("meta-data/instance-id", bearer)).toBe(401);
  });

  test("is its instance's alone", () => {
    const { cloud, get, token } = setUp();
    const other = cloud.region.addInstance({ id: "i-other", ip: "10.0.1.11" });
    expect(get("meta-data/instance-id", token("60", other))).toBe(401);
  });

  test.each<[string, string, Readonly<Record<string, string>>, number]>([
    ["without a time to live", "PUT", {}, 400],
    ["for no time", "PUT", { "x-aws-ec2-metadata-token-ttl-seconds": "0" }, 400],
    ["for more than six hours", "PUT", { "x-aws-ec2-metadata-token-ttl-seconds": "21601" }, 400],
    [
      "through a proxy",
      "PUT",
      { "x-aws-ec2-metadata-token-ttl-seconds": "60", "x-forwarded-for": "10.0.0.1" },
      403,
    ],
    ["by POST", "POST", { "x-aws-ec2-metadata-token-ttl-seconds": "60" }, 405],
  ])("is not given %s", (_, method, headers, status) => {
    expect(setUp().send(method, "/latest/api/token", headers).status).toBe(status);
  });
});

test("nobody answers an instance whose metadata is off, or an address without an instance", () => {
  const { send, instance, token } = setUp();
  const bearer = { "x-aws-ec2-metadata-token": token() };
  Object.assign(instance.metadataOptions, { httpEndpoint: "disabled" });
  expect(send("GET", "/latest/meta-data/", bearer).status).toBe(403);
  const metadata = new Metadata({
    cloud: new MemoryCloud(),
    credentials: new Credentials(),
    now: () => START,
  });
  const asked = {
    method: "GET",
    path: "/latest/",
    query: "",
    headers: {},
    body: new Uint8Array(),
    from: "10.9.9.9",
  };
  expect(metadata.answer(asked, undefined).status).toBe(404);
});

test("folders list what they hold; what is not there is 404", () => {
  const { get } = setUp();
  expect(get("")).toBe("dynamic/\nmeta-data/\nuser-data");
  expect(get("meta-data/placement/")).toBe("availability-zone\nregion");
  expect(get("meta-data/iam/security-credentials/")).toBe("exit-role");
  for (const path of [
    "meta-data/nothing",
    "meta-data/instance-id/more",
    "meta-data/__proto__",
    "meta-data/tags",
  ]) {
    expect(get(path)).toBe(404);
  }
});

test("every interface stands under its MAC address, one that came later too", async () => {
  const { cloud, get, instance } = setUp();
  const [primary] = instance.interfaces;
  expect(get("meta-data/network/interfaces/macs/")).toBe(`${primary?.mac}/`);
  await cloud.region.attachInterface("eni-ingress", "i-own", 1);
  const ingress = cloud.region.interfaces.get("eni-ingress");
  const folder = `meta-data/network/interfaces/macs/${ingress?.mac}`;
  const facts = {
    "device-number": "1",
    "interface-id": "eni-ingress",
    "ipv4-associations/198.18.10.10": "10.0.0.10",
    "local-ipv4s": "10.0.0.10",
    "public-ipv4s": "198.18.10.10",
    "subnet-id": "subnet-public",
    "subnet-ipv4-cidr-block": "10.0.0.0/24",
    "vpc-id": "vpc-1",
    "vpc-ipv4-cidr-block": "10.0.0.0/16",
    "vpc-ipv4-cidr-blocks": "10.0.0.0/16",
  };
  for (const [name, value] of Object.entries(facts)) expect(get(`${folder}/${name}`)).toBe(value);
  expect(get(`${folder}/ipv6s`)).toBe(404);
  expect(get("meta-data/public-ipv4")).toBe(404);
});

test("credentials are of the role, and become others after half of their time", () => {
  const { get, clock } = setUp();
  const read = () =>
    JSON.parse(String(get("meta-data/iam/security-credentials/exit-role"))) as Record<string, string>;
  const first = read();
  expect(first).toMatchObject({
    Code: "Success",
    Type: "AWS-HMAC",
    LastUpdated: "2026-01-02T03:04:05Z",
    Expiration: "2026-01-02T09:04:05Z",
  });
  clock.now += 2 * 3_600_000;
  expect(read()).toEqual(first);
  clock.now += 3_600_000;
  expect(read()["AccessKeyId"]).not.toBe(first["AccessKeyId"]);
});

test("an instance without a role has no credentials", () => {
  const { cloud, send, token } = setUp();
  const bare = cloud.region.addInstance({ id: "i-bare", ip: "10.0.1.12" });
  const headers = { "x-aws-ec2-metadata-token": token("60", bare) };
  expect(send("GET", "/latest/meta-data/iam/security-credentials/", headers, bare).status).toBe(404);
});

test("an instance of a group is told where it goes", () => {
  const { instance, get } = setUp();
  expect(get("meta-data/autoscaling/target-lifecycle-state")).toBe(404);
  const lifecycle = { groupName: "g", state: "Pending:Wait", target: "InService", health: "Healthy" };
  Object.assign(instance, { lifecycle });
  expect(get("meta-data/autoscaling/target-lifecycle-state")).toBe("InService");
  Object.assign(instance, { lifecycle: { ...lifecycle, target: "Terminated" } });
  expect(get("meta-data/autoscaling/target-lifecycle-state")).toBe("Terminated");
});

test("tags are there where they are turned on", () => {
  const { instance, get } = setUp();
  expect(get("meta-data/tags/instance/")).toBe(404);
  Object.assign(instance.metadataOptions, { instanceMetadataTags: "enabled" });
  expect(get("meta-data/tags/instance/")).toBe("Name\nsallyport:path");
  expect(get("meta-data/tags/instance/sallyport:path")).toBe("x");
});

test("the identity document and the user data are the instance's", () => {
  const { get } = setUp();
  expect(JSON.parse(String(get("dynamic/instance-identity/document")))).toMatchObject({
    ...{ accountId: "111122223333", instanceId: "i-own", region: "eu-west-1", privateIp: "10.0.1.10" },
  });
  expect(get("user-data")).toBe("#!/bin/bash\n");
});
