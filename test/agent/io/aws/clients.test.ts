import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { awsError, clientConfig, faultOf, loadEc2, ownRegion } from "../../../../agent/src/io/aws/clients.ts";
import { Imds } from "../../../../agent/src/io/aws/imds.ts";

let server: Server;
let endpoint: string;
let answer: { status: number; body: string };
let asked: string[];

beforeEach(async () => {
  [asked, answer] = [[], { status: 200, body: OK }];
  server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => (body += String(chunk)));
    request.on("end", () => {
      asked.push(body);
      response.writeHead(answer.status, { "content-type": "text/xml" }).end(answer.body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

const OK = `<CreateTagsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId><return>true</return></CreateTagsResponse>`;
const refusal = (code: string) =>
  `<Response><Errors><Error><Code>${code}</Code><Message>secret-looking text</Message></Error></Errors><RequestID>r</RequestID></Response>`;
const CREDENTIALS = { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "secret" };

async function createTags(): Promise<unknown> {
  const { EC2Client, CreateTagsCommand } = await loadEc2();
  const ec2 = new EC2Client(
    clientConfig({ region: "eu-central-1", endpoint, attempts: 1, credentials: CREDENTIALS }),
  );
  const tags = { Resources: ["i-1"], Tags: [{ Key: "sallyport:path", Value: "direct" }] };
  try {
    return await ec2.send(new CreateTagsCommand(tags));
  } catch (error) {
    return error;
  } finally {
    ec2.destroy();
  }
}

test("a command is sent as EC2 reads it", async () => {
  await createTags();
  expect(Object.fromEntries(new URLSearchParams(asked[0]))).toMatchObject({
    Action: "CreateTags",
    "ResourceId.1": "i-1",
    "Tag.1.Key": "sallyport:path",
    "Tag.1.Value": "direct",
  });
});

test.each([
  ["RequestLimitExceeded", 503, "throttled"],
  ["UnauthorizedOperation", 403, "denied"],
  ["AuthFailure", 401, "region-off"],
  ["OptInRequired", 401, "region-off"],
  ["RequestExpired", 400, "no-credentials"],
  ["InvalidInstanceID.NotFound", 400, "refused"],
  ["InternalError", 500, "unreachable"],
])("%s is %s, %s", async (code, status, fault) => {
  answer = { status, body: refusal(code) };
  expect(faultOf(await createTags())).toBe(fault);
});

test("nobody at the endpoint is told apart", async () => {
  endpoint = "http://127.0.0.1:9";
  expect(faultOf(await createTags())).toBe("unreachable");
});

test("the sentence names action and resource, not what AWS wrote", async () => {
  answer = { status: 403, body: refusal("UnauthorizedOperation") };
  const { code, message } = awsError(await createTags(), "ec2:CreateTags", "instance/i-1");
  expect(code).toBe("aws-denied");
  expect(message).toContain("ec2:CreateTags on instance/i-1 is not permitted (UnauthorizedOperation)");
  expect(message).not.toContain("secret");
});

test.each([
  [
    "AuthFailure",
    401,
    "the region is not enabled for this account, or the credentials are not valid (AuthFailure)",
  ],
  ["OptInRequired", 401, "the region is not enabled for this account or does not exist (OptInRequired)"],
])("of %s the sentence names every cause", async (code, status, text) => {
  answer = { status, body: refusal(code) };
  expect(awsError(await createTags(), "ec2:CreateTags", "instance/i-1").message).toContain(text);
});

test("a name that can not be resolved may be the region's or the machine's fault", () => {
  const error = Object.assign(new Error("getaddrinfo ENOTFOUND ec2.eu-nowhere-1.amazonaws.com"), {
    code: "ENOTFOUND",
  });
  expect(awsError(error, "ec2:DescribeInstances", "eu-nowhere-1").message).toBe(
    "ec2:DescribeInstances on eu-nowhere-1: the region does not exist, or the name of its endpoint can not be resolved here " +
      "(ENOTFOUND)",
  );
});

test("a variable names the region before the instance does", async () => {
  answer = { status: 200, body: "eu-west-3" };
  const imds = new Imds({ endpoint });
  expect(await ownRegion(imds, {})).toBe("eu-west-3");
  expect(await ownRegion(imds, { AWS_DEFAULT_REGION: "us-east-2" })).toBe("us-east-2");
  expect(await ownRegion(imds, { AWS_DEFAULT_REGION: "us-east-2", AWS_REGION: "sa-east-1" })).toBe(
    "sa-east-1",
  );
});
