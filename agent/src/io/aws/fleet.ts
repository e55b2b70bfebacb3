/**
 * The instances of an account that say how they are, read from their tags: all regions asked at the same time, each page by
 * page. A region that can not be read is named and takes nothing from the others.
 */
import type { OperationError } from "../../base/errors.ts";
import { UsageError } from "../../base/errors.ts";
import type { Calendar } from "../../base/time.ts";
import type { FleetInstance, FleetReading, RegionFailure } from "../../health/fleet.ts";
import { NODE_TAG } from "../../health/node-tags.ts";
import { systemCalendar } from "../calendar.ts";
import type * as Ec2 from "../apart/ec2.ts";
import { awsError, clientConfig, type ClientOptions, loadEc2 } from "./clients.ts";
import { Imds } from "./imds.ts";

export interface FleetOptions extends Omit<ClientOptions, "region"> {
  /** Those, "all" that are enabled, or undefined: the one that the environment names, or this instance's. */
  readonly regions: readonly string[] | "all" | undefined;
  /** Of DescribeInstances, at most 1,000. @default 1,000 */
  readonly pageSize?: number;
  /** @default the machine's */
  readonly calendar?: Calendar;
}

const REPORTS = { Name: "tag-key", Values: [NODE_TAG] };
const ALIVE = { Name: "instance-state-name", Values: ["pending", "running"] };
const PAGE_SIZE = 1_000;
/** More at once only makes each slower. */
const REGIONS_AT_ONCE = 17;
/** Throttling passes: the SDK waits longer each time. */
const ATTEMPTS = 5;
/** Asked for the list of regions, where nothing names one. */
const ANY_REGION = "us-east-1";

export class FleetReader {
  readonly #options: FleetOptions;
  readonly #clients = new Map<string, Ec2.EC2Client>();
  #regions: Promise<readonly string[]> | undefined;

  constructor(options: FleetOptions) {
    this.#options = options;
  }

  /** @throws OperationError, UsageError where not even the regions are known */
  async read(): Promise<FleetReading> {
    const regions = await this.#knownRegions();
    const instances: FleetInstance[] = [];
    const failures: RegionFailure[] = [];
    const waiting = [...regions];
    const worker = async (): Promise<void> => {
      for (let region = waiting.shift(); region !== undefined; region = waiting.shift()) {
        try {
          instances.push(...(await this.#readRegion(region)));
        } catch (error) {
          const { code, message } = awsError(error, "ec2:DescribeInstances", `* in ${region}`);
          failures.push({ region, code, message });
        }
      }
    };
    await Promise.all(Array.from({ length: REGIONS_AT_ONCE }, worker));
    failures.sort((a, b) => (a.region < b.region ? -1 : 1));
    const { calendar = systemCalendar } = this.#options;
    return { at: calendar.now(), regions, instances, failures };
  }

  close(): void {
    for (const client of this.#clients.values()) client.destroy();
    this.#clients.clear();
  }

  async #readRegion(region: string): Promise<readonly FleetInstance[]> {
    const { DescribeInstancesCommand } = await loadEc2();
    const ec2 = await this.#client(region);
    const found: FleetInstance[] = [];
    let token: string | undefined;
    do {
      const page: Ec2.DescribeInstancesCommandOutput = await ec2.send(
        new DescribeInstancesCommand({
          Filters: [REPORTS, ALIVE],
          MaxResults: this.#options.pageSize ?? PAGE_SIZE,
          ...(token === undefined ? {} : { NextToken: token }),
        }),
      );
      const instances = (page.Reservations ?? []).flatMap((reservation) => reservation.Instances ?? []);
      found.push(...instances.map((instance) => instanceOf(region, instance)));
      token = page.NextToken;
    } while (token !== undefined && token !== "");
    return found;
  }

  #knownRegions(): Promise<readonly string[]> {
    this.#regions ??= this.#findRegions().catch((error: unknown) => {
      this.#regions = undefined;
      throw error;
    });
    return this.#regions;
  }

  async #findRegions(): Promise<readonly string[]> {
    const { regions } = this.#options;
    if (Array.isArray(regions)) return [...new Set<string>(regions)];
    const { DescribeRegionsCommand } = await loadEc2();
    const named = await this.#client(undefined).then((client) =>
      client.config.region().catch(() => undefined),
    );
    if (regions !== "all") return [named ?? (await instanceRegion())];
    const ec2 = await this.#client(named ?? ANY_REGION);
    try {
      const { Regions: enabled = [] } = await ec2.send(new DescribeRegionsCommand({}));
      return enabled.map(({ RegionName: name }) => name ?? "").filter((name) => name !== "");
    } catch (error) {
      throw awsError(error, "ec2:DescribeRegions", "*");
    }
  }

  /** Without a region it has the one that variables and profiles name. */
  async #client(region: string | undefined): Promise<Ec2.EC2Client> {
    const { EC2Client } = await loadEc2();
    const known = this.#clients.get(region ?? "");
    const client = known ?? new EC2Client(clientConfig({ ...this.#options, region, attempts: ATTEMPTS }));
    this.#clients.set(region ?? "", client);
    return client;
  }
}

async function instanceRegion(): Promise<string> {
  return await new Imds().region().catch((cause: OperationError) => {
    const message = "no region of AWS is named: give --region or --all-regions, or set AWS_REGION";
    throw new UsageError("fleet-no-region", message, { cause });
  });
}

function instanceOf(region: string, instance: Ec2.Instance): FleetInstance {
  const tags = new Map((instance.Tags ?? []).map(({ Key = "", Value = "" }) => [Key, Value]));
  return {
    region,
    zone: instance.Placement?.AvailabilityZone ?? "",
    instanceId: instance.InstanceId ?? "",
    name: tags.get("Name") ?? "",
    tags,
  };
}
