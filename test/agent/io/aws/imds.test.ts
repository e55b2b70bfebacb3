import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { OperationError } from "../../../../agent/src/base/errors.ts";
import { Imds } from "../../../../agent/src/io/aws/imds.ts";

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

let server: Server;
let endpoint: string;
let handler: Handler;
let tokens: number;
let valid: string;

const ENTRIES: Readonly<Record<string, string>> = {
  "instance-id": "i-0123456789abcdef0",
  "placement/region": "eu-central-1",
  "network/interfaces/macs/": "02:00:00:00:00:01/\n02:00:00:00:00:02/\n",
};

beforeEach(async () => {
  [tokens, valid, handler] = [0, "", answer];
  server = createServer((request, response) => handler(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

/** As EC2 does where tokens are required. */
function answer(request: IncomingMessage, response: ServerResponse): void {
  if (request.method === "PUT" && request.url === "/latest/api/token") {
    const ttl = Number(request.headers["x-aws-ec2-metadata-token-ttl-seconds"]);
    if (!(ttl >= 1 && ttl <= 21_600)) return void response.writeHead(400).end();
    valid = `token-${++tokens}`;
    return void response.end(valid);
  }
  if (request.headers["x-aws-ec2-metadata-token"] !== valid) return void response.writeHead(401).end();
  const entry = ENTRIES[(request.url ?? "").replace("/latest/meta-data/", "")];
  if (entry === undefined) response.writeHead(404).end();
  else response.end(entry);
}

const codeOf = async (asked: Promise<unknown>): Promise<string> =>
  await asked.then(
    () => "none",
    (error: unknown) => (error instanceof OperationError ? error.code : String(error)),
  );

test("one token serves every question", async () => {
  const imds = new Imds({ endpoint });
  expect(await Promise.all([imds.instanceId(), imds.region()])).toEqual([
    "i-0123456789abcdef0",
    "eu-central-1",
  ]);
  expect(await imds.macs()).toEqual(["02:00:00:00:00:01", "02:00:00:00:00:02"]);
  expect(tokens).toBe(1);
});

test("the endpoint is the SDK's variable", async () => {
  const env = { AWS_EC2_METADATA_SERVICE_ENDPOINT: endpoint };
  expect(await new Imds({ env }).region()).toBe("eu-central-1");
});

test("a token that is no longer taken is asked for anew, once", async () => {
  const imds = new Imds({ endpoint });
  await imds.region();
  valid = "another";
  expect(await imds.region()).toBe("eu-central-1");
  expect(tokens).toBe(2);
  handler = (request, response) => {
    if (request.method === "PUT") answer(request, response);
    else response.writeHead(401).end();
  };
  expect(await codeOf(imds.region())).toBe("imds-failed");
});

test("an entry that is not there is told apart from a fault", async () => {
  const imds = new Imds({ endpoint });
  expect(await imds.find("public-ipv4")).toBeUndefined();
  expect(await codeOf(imds.get("public-ipv4"))).toBe("imds-missing");
});

test("a service that is off says so", async () => {
  handler = (_, response) => response.writeHead(403).end();
  expect(await codeOf(new Imds({ endpoint }).region())).toBe("imds-off");
  const env = { AWS_EC2_METADATA_DISABLED: "true" };
  expect(await codeOf(new Imds({ endpoint, env }).region())).toBe("imds-off");
});

test("a token that dies on the way means that the hop limit is too low", async () => {
  handler = (request, response) => {
    if (request.method !== "PUT") response.writeHead(401).end();
  };
  const imds = new Imds({ endpoint, timeoutMs: 100 });
  expect(await codeOf(imds.region())).toBe("imds-hop-limit");
  await expect(imds.region()).rejects.toThrow(/HttpPutResponseHopLimit/);
});

test("silence, or nobody there, means that this is no instance", async () => {
  handler = () => {};
  expect(await codeOf(new Imds({ endpoint, timeoutMs: 100 }).region())).toBe("imds-unreachable");
  expect(await codeOf(new Imds({ endpoint: "http://127.0.0.1:9", timeoutMs: 500 }).region())).toBe(
    "imds-unreachable",
  );
});

test("after a failure it works as soon as the service does", async () => {
  const imds = new Imds({ endpoint });
  handler = (_, response) => response.writeHead(500).end();
  expect(await codeOf(imds.region())).toBe("imds-failed");
  handler = answer;
  expect(await imds.region()).toBe("eu-central-1");
});
