import { OperationError } from "../../../../agent/src/base/errors.ts";
import { CloudFacts } from "../../../../agent/src/io/exit-node/cloud-facts.ts";

const MACS = "network/interfaces/macs/";
const [PRIMARY, SECOND] = ["02:00:00:00:00:0e", "02:00:00:00:00:0a"];

function entriesOf(mac: string, values: Readonly<Record<string, string>>) {
  const all = { "vpc-ipv4-cidr-blocks": "10.0.0.0/16", ...values };
  return Object.entries(all).map(([name, value]) => [`${MACS}${mac}/${name}`, value] as const);
}

const ENTRIES: Readonly<Record<string, string>> = Object.fromEntries([
  [MACS, `${PRIMARY}/\n${SECOND}/`],
  ...entriesOf(PRIMARY, {
    ...{ "interface-id": "eni-0e", "device-number": "0", "local-ipv4s": "10.0.1.10" },
    "subnet-ipv4-cidr-block": "10.0.1.0/24",
  }),
  ...entriesOf(SECOND, {
    ...{ "interface-id": "eni-0a", "device-number": "1", "local-ipv4s": "10.0.0.10" },
    "subnet-ipv4-cidr-block": "10.0.0.0/24",
  }),
]);

/** A service whose entries can be taken away; "silence" is one that does not answer. */
class Service {
  readonly entries = new Map(Object.entries(ENTRIES));

  find(path: string): Promise<string | undefined> {
    const text = this.entries.get(path);
    if (text !== "silence") return Promise.resolve(text);
    return Promise.reject(new OperationError("imds-unreachable", "it can not be reached"));
  }
}

function open(isInstance: boolean) {
  const service = new Service();
  const cloud = new CloudFacts({ metadata: service, isInstance: () => Promise.resolve(isInstance) });
  cloud.handleMacs([PRIMARY, SECOND], 0);
  const ids = (): readonly string[] | undefined => cloud.facts.cloud?.map(({ id }) => id);
  return { service, cloud, ids };
}

test("a whole answer is kept; it is asked again soon while the interfaces are new, then every five minutes", async () => {
  const { cloud, ids } = open(true);
  expect(cloud.dueIn(true, 0)).toBe(0);
  expect(await cloud.ask(0)).toBe(true);
  expect(ids()).toEqual(["eni-0e", "eni-0a"]);
  expect(cloud.dueIn(true, 0)).toBe(10_000);
  expect(await cloud.ask(60_000)).toBe(false);
  expect(cloud.dueIn(true, 60_000)).toBe(300_000);
  expect(cloud.dueIn(true, 400_000)).toBe(0);
});

test.each([
  ["nothing at all", MACS, "silence", "it can not be reached"],
  ["one question", `${MACS}${SECOND}/local-ipv4s`, "silence", "it can not be reached"],
  ["no interface", MACS, undefined, "no interface"],
  ["no networks", `${MACS}${PRIMARY}/vpc-ipv4-cidr-blocks`, undefined, "vpc-ipv4-cidr-blocks"],
  ["no place", `${MACS}${SECOND}/device-number`, undefined, "device-number"],
  ["what is no address", `${MACS}${SECOND}/local-ipv4s`, "ten", "ten"],
])("an answer that lacks something is none, and is asked for again after two seconds: %s", async (...row) => {
  const [, path, answer, why] = row;
  const { service, cloud, ids } = open(true);
  if (answer === undefined) service.entries.delete(path);
  else service.entries.set(path, answer);
  await cloud.ask(0);
  expect(cloud.facts).toEqual({ cloud: undefined, metadataFailure: expect.stringContaining(why) });
  expect(cloud.dueIn(true, 500)).toBe(1_500);
  service.entries.set(path, ENTRIES[path] ?? "");
  expect(await cloud.ask(2_000)).toBe(true);
  expect(ids()).toEqual(["eni-0e", "eni-0a"]);
  expect(cloud.facts.metadataFailure).toBeUndefined();
});

test("an interface that the metadata tell of late is asked for again until exit traffic could leave", async () => {
  const { service, cloud, ids } = open(true);
  service.entries.set(MACS, `${PRIMARY}/`);
  await cloud.ask(100_000);
  expect([ids(), cloud.dueIn(false, 100_000)]).toEqual([["eni-0e"], 2_000]);
  service.entries.set(MACS, ENTRIES[MACS] ?? "");
  expect(await cloud.ask(102_000)).toBe(true);
  expect([ids(), cloud.dueIn(true, 102_000)]).toEqual([["eni-0e", "eni-0a"], 300_000]);
});

test("what was known stays known while nobody answers", async () => {
  const { service, cloud, ids } = open(false);
  await cloud.ask(100_000);
  service.entries.set(MACS, "silence");
  expect(await cloud.ask(400_000)).toBe(false);
  expect(ids()).toEqual(["eni-0e", "eni-0a"]);
  expect(cloud.dueIn(true, 400_000)).toBe(2_000);
});

test("a new device is a reason to ask at once", async () => {
  const { cloud } = open(true);
  await cloud.ask(100_000);
  cloud.handleMacs([PRIMARY, SECOND, "02:00:00:00:00:0b"], 100_500);
  expect(cloud.dueIn(true, 100_500)).toBe(0);
});

test("whoever tells one interface is an instance's service, also where the hardware does not say so", async () => {
  const { service, cloud } = open(false);
  service.entries.set(`${MACS}${SECOND}/local-ipv4s`, "silence");
  await cloud.ask(0);
  expect(cloud.facts.metadataFailure).toBe("it can not be reached");
  expect(cloud.dueIn(true, 0)).toBe(2_000);
});

test("a machine that is no instance is in no cloud, and asks more and more seldom whether it is", async () => {
  const { service, cloud } = open(false);
  service.entries.set(MACS, "silence");
  const pauses: number[] = [];
  for (let [at, i] = [0, 0]; i < 10; i++) {
    await cloud.ask(at);
    pauses.push(cloud.dueIn(true, at));
    at += pauses.at(-1) ?? 0;
  }
  expect(pauses).toEqual([2, 4, 8, 16, 32, 64, 128, 256, 300, 300].map((s) => s * 1_000));
  expect(cloud.facts).toEqual({ cloud: undefined, metadataFailure: undefined });
});
