/** Instances in moto, and what agents on them would have written. */
import {
  CreateTagsCommand,
  EC2Client,
  RunInstancesCommand,
  TerminateInstancesCommand,
  type _InstanceType,
} from "@aws-sdk/client-ec2";
import { parseRfc3339 } from "../../agent/src/base/rfc3339.ts";
import { type WallTime, wallTime } from "../../agent/src/base/time.ts";
import { prepareSdk } from "../../agent/src/io/aws-client.ts";
import { type NodeTags, tagsOf } from "../../agent/src/health/node-tags.ts";

export const CREDENTIALS = { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "secret" };
export const NOW: WallTime = parseRfc3339("2026-11-22T09:03:46Z") ?? wallTime(0);

const GOOD = {
  "sallyport:path": "direct",
  "sallyport:health": "ok",
  "sallyport:peers": "3/3 direct",
  "sallyport:endpoint": "203.0.113.5:41641",
  "sallyport:relay": "nyc",
  "sallyport:egress": "198.51.100.7",
  "sallyport:version": "0.1.0",
};

/** What a healthy node wrote `ago` ms before NOW, with changes. */
export function written(changes: Partial<NodeTags> = {}, ago = 60_000): NodeTags {
  return { ...tagsOf(GOOD, wallTime(NOW - ago)), ...changes };
}

export class Account {
  readonly #endpoint: string;
  readonly #clients = new Map<string, EC2Client>();

  constructor(endpoint: string) {
    prepareSdk();
    this.#endpoint = endpoint;
  }

  /** Starts instances that all have these tags, ten at a time, since moto's pages are of reservations; returns their ids. */
  async launch(
    region: string,
    count: number,
    tags: Readonly<Record<string, string>>,
  ): Promise<readonly string[]> {
    const ids: string[] = [];
    while (ids.length < count) {
      const size = Math.min(10, count - ids.length);
      const { Instances: instances = [] } = await this.#in(region).send(
        new RunInstancesCommand({
          ...{
            ImageId: "ami-12c6146b",
            MinCount: size,
            MaxCount: size,
            InstanceType: "t4g.nano" as _InstanceType,
          },
          TagSpecifications: [{ ResourceType: "instance", Tags: entries(tags) }],
        }),
      );
      ids.push(...instances.map(({ InstanceId: id = "" }) => id));
    }
    return ids;
  }

  async terminate(region: string, ids: readonly string[]): Promise<void> {
    await this.#in(region).send(new TerminateInstancesCommand({ InstanceIds: [...ids] }));
  }

  async tag(region: string, id: string, tags: Readonly<Record<string, string>>): Promise<void> {
    await this.#in(region).send(new CreateTagsCommand({ Resources: [id], Tags: entries(tags) }));
  }

  close(): void {
    for (const client of this.#clients.values()) client.destroy();
  }

  #in(region: string): EC2Client {
    const known = this.#clients.get(region);
    const client = known ?? new EC2Client({ region, endpoint: this.#endpoint, credentials: CREDENTIALS });
    this.#clients.set(region, client);
    return client;
  }
}

function entries(tags: Readonly<Record<string, string>>) {
  return Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
}
