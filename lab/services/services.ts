/**
 * What an instance in the lab talks to, as on AWS: its metadata, the endpoints of EC2, Auto Scaling, Systems Manager, Secrets
 * Manager and S3 under their own names, Let's Encrypt's directory, and the DNS that knows them. Requests are HTTP(S) on real sockets, signatures are
 * checked, and every call is judged by the policies of the caller's role.
 *
 * One process holds the sockets in all namespaces. In the router of each VPC it listens on 169.254.169.254 (metadata) and
 * 169.254.169.253 (DNS); on the endpoint host on tcp/443 and port 53.
 *
 * In a namespace (root): `startServices(cloud, host)`, then run programs there with `services.environment`, and
 * /etc/netns/NAME/resolv.conf naming 169.254.169.253. Real host names then work unchanged.
 *
 * Without namespaces: `startLoopbackServices({ cloud, instanceId })` answers on 127.0.0.1 for one instance; AWS's own clients and
 * the agent take its `environment` (AWS_ENDPOINT_URL, AWS_EC2_METADATA_SERVICE_ENDPOINT, AWS_REGION).
 *
 * Either way `services.calls` is the log of what was asked and how it was judged, and `services.throttle` makes calls fail.
 */
import { appendFileSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Server, Socket } from "node:net";
import { join } from "node:path";
import { Ip, IpPort } from "../../agent/src/base/address.ts";
import { openSocketIn, setTimeToLive, SOCK_STREAM } from "../../agent/src/io/ffi/namespace-sockets.ts";
import { SOCK_DGRAM } from "../../agent/src/io/ffi/libc.ts";
import type { LabCloud, LabInstance, LabServices, ServiceHost } from "../cloud/cloud.ts";
import { dial } from "../dial.ts";
import { Acme, ACME_HOST } from "./acme.ts";
import { Authority } from "./authority.ts";
import { Credentials, type Session } from "./credentials.ts";
import { labNames, type Names, serveDnsTcp, serveDnsUdp } from "./dns.ts";
import { Endpoints, type ServiceCall, type Throttle } from "./endpoints.ts";
import { type HttpAnswer, type HttpRequest, readRequest, writeAnswer } from "./http.ts";
import { Metadata } from "./metadata.ts";

const METADATA_IP = "169.254.169.254";
export const RESOLVER_IP = "169.254.169.253";

export interface ServiceOptions {
  /** Names that DNS knows beside those of AWS and of instances. @default none */
  readonly hosts?: Names;
  /** Of a role's credentials: they are renewed after half of it. @default six hours */
  readonly credentialLifetimeMs?: number;
  /** In milliseconds since 1970. @default the machine's clock */
  readonly now?: () => number;
  /** @default nobody is told */
  readonly onCall?: (call: ServiceCall) => void;
}

export interface Services extends LabServices {
  /** What was asked so far, oldest first. */
  readonly calls: readonly ServiceCall[];
  /** What programs in the lab's namespaces need in order to trust these services. */
  readonly environment: Readonly<Record<string, string>>;
  /** Credentials of a user who may do everything, as a person at a terminal has them. */
  readonly user: Pick<Session, "accessKeyId" | "secretAccessKey">;
  /** A server certificate of the lab's authority, as PEM. */
  certificateFor(host: string): { readonly key: string; readonly cert: string };
  /** The next calls of an action are refused as too many. */
  throttle(throttle: Throttle): void;
}

/** @throws UsageError for a policy that can not be judged by; OperationError where a socket can not be had */
export async function startServices(
  cloud: LabCloud,
  host: Pick<ServiceHost, "folder" | "netns">,
  options: ServiceOptions = {},
): Promise<Services> {
  const core = new Core(cloud, options, join(host.folder, "services.log"));
  const authority = new Authority(core.now());
  const caFile = join(host.folder, "ca.pem");
  writeFileSync(caFile, authority.certPem, { mode: 0o644 });
  const sockets = new Sockets();
  try {
    const names = labNames(cloud, options.hosts ?? (() => undefined), [ACME_HOST]);
    for (const { id, namespace } of allVpcs(cloud)) {
      const netns = host.netns(namespace);
      const metadata = createServer(core.metadataListener((from) => cloud.instanceAt(id, from)));
      await sockets.tcp(netns, METADATA_IP, 80, metadata);
      await sockets.dns(netns, RESOLVER_IP, names);
    }
    const netns = host.netns(cloud.endpointHost.namespace);
    const from = cloud.endpointHost.ip;
    const connect = (ip: string, port: number): Socket => dial({ netns, from, to: { ip, port } });
    const acme = new Acme({ authority, resolve: names, connect });
    await sockets.tcp(netns, cloud.endpointHost.ip, 443, tlsServer(core, authority, acme));
    await sockets.dns(netns, cloud.endpointHost.ip, names);
  } catch (error) {
    await sockets.close();
    throw error;
  }
  return core.services({
    caFile,
    certificateFor: (name) => authority.certificateFor(name),
    environment: { NODE_EXTRA_CA_CERTS: caFile, CURL_CA_BUNDLE: caFile, SSL_CERT_FILE: caFile },
    close: () => sockets.close(),
  });
}

export interface LoopbackOptions extends ServiceOptions {
  readonly cloud: LabCloud;
  /** Whose metadata is shown. */
  readonly instanceId: string;
}

/** The same on 127.0.0.1, in plain HTTP, on ports that are free. Needs no root and no name server. */
export async function startLoopbackServices(options: LoopbackOptions): Promise<Services> {
  const { cloud, instanceId } = options;
  const core = new Core(cloud, options);
  const self = (): LabInstance | undefined =>
    [...cloud.regions.values()].flatMap(({ instances }) => instances.get(instanceId) ?? [])[0];
  const sockets = new Sockets();
  const metadata = createServer(core.metadataListener(self));
  const endpoints = createServer(core.listener((request) => core.endpoints.answer(request)));
  const url = async (server: Server): Promise<string> => {
    await sockets.tcp(undefined, "127.0.0.1", 0, server);
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  };
  const environment = {
    AWS_EC2_METADATA_SERVICE_ENDPOINT: await url(metadata),
    AWS_ENDPOINT_URL: await url(endpoints),
    AWS_REGION: self()?.region ?? "",
  };
  const authority = new Authority(core.now());
  return core.services({
    caFile: "",
    certificateFor: (name) => authority.certificateFor(name),
    environment,
    close: () => sockets.close(),
  });
}

/** What answers, apart from the sockets that it answers on. */
class Core {
  readonly endpoints: Endpoints;
  readonly now: () => number;
  readonly #metadata: Metadata;
  readonly #calls: ServiceCall[] = [];
  readonly #credentials: Credentials;

  constructor(cloud: LabCloud, options: ServiceOptions, logFile?: string) {
    this.now = options.now ?? Date.now;
    this.#credentials = new Credentials({ lifetimeMs: options.credentialLifetimeMs });
    const shared = { cloud, credentials: this.#credentials, now: this.now };
    this.#metadata = new Metadata(shared);
    const onCall = (call: ServiceCall): void => {
      this.#calls.push(call);
      if (logFile !== undefined) appendFileSync(logFile, `${describeCall(call)}\n`);
      options.onCall?.(call);
    };
    this.endpoints = new Endpoints({ ...shared, onCall });
  }

  services(rest: Pick<Services, "caFile" | "environment" | "certificateFor" | "close">): Services {
    const { accessKeyId, secretAccessKey } = this.#credentials.user;
    return {
      ...rest,
      calls: this.#calls,
      user: { accessKeyId, secretAccessKey },
      throttle: (throttle) => this.endpoints.throttle(throttle),
    };
  }

  metadataListener(instanceAt: (from: string) => LabInstance | undefined): RequestListener {
    return (message, response) => {
      const instance = instanceAt((message.socket.remoteAddress ?? "").replace(/^::ffff:/, ""));
      // The token must not get further than this: a packet with this many hops left ends at a container's bridge.
      if (message.method === "PUT" && instance !== undefined) {
        const fd = descriptorOf(message.socket);
        if (fd !== undefined) setTimeToLive(fd, instance.metadataOptions.httpPutResponseHopLimit);
      }
      void respond(message, response, (request) => this.#metadata.answer(request, instance));
    };
  }

  listener(answer: (request: HttpRequest) => Promise<HttpAnswer>): RequestListener {
    return (message, response) => void respond(message, response, answer);
  }
}

/** A line of the log: `2026-01-02T03:04:05.678Z i-0… ec2:CreateTags eu-west-1 UnauthorizedOperation: You are not…` */
function describeCall({ at, instanceId, action, region, outcome, message }: ServiceCall): string {
  const result = message === undefined ? outcome : `${outcome}: ${message.replaceAll(/\s+/g, " ")}`;
  return `${new Date(at).toISOString()} ${instanceId ?? "-"} ${action} ${region} ${result}`;
}

async function respond(
  message: IncomingMessage,
  response: ServerResponse,
  answer: (request: HttpRequest) => HttpAnswer | Promise<HttpAnswer>,
): Promise<void> {
  try {
    const request = await readRequest(message);
    if (request === undefined) writeAnswer({ status: 413, headers: {}, body: "" }, response);
    else writeAnswer(await answer(request), response);
  } catch {
    response.destroy();
  }
}

function tlsServer(core: Core, authority: Authority, acme: Acme): Server {
  return createTlsServer(
    {
      SNICallback: (host, done) => done(null, authority.contextFor(host)),
      ...authority.certificateFor("amazonaws.com"),
    },
    core.listener((request) =>
      request.headers["host"] === ACME_HOST ? acme.answer(request) : core.endpoints.answer(request),
    ),
  );
}

/** Node tells only its own code which descriptor a socket has. */
function descriptorOf(socket: Socket): number | undefined {
  const handle: unknown = Reflect.get(socket, "_handle");
  const fd: unknown = typeof handle === "object" && handle !== null ? Reflect.get(handle, "fd") : undefined;
  return typeof fd === "number" && fd >= 0 ? fd : undefined;
}

function allVpcs(cloud: LabCloud) {
  return [...cloud.regions.values()].flatMap(({ vpcs }) => [...vpcs.values()]);
}

/** All that listens, to be closed together with what it is connected to. */
class Sockets {
  readonly #closers: (() => Promise<void>)[] = [];

  async tcp(netns: string | undefined, ip: string, port: number, server: Server): Promise<void> {
    const connections = new Set<Socket>();
    server.on("connection", (socket: Socket) => {
      connections.add(socket);
      socket.once("close", () => connections.delete(socket));
    });
    const fd = openSocketIn({ netns, type: SOCK_STREAM, address: new IpPort(Ip.parse(ip), port) });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ fd }, resolve);
    });
    this.#closers.push(
      () =>
        new Promise((resolve) => {
          server.close(() => resolve());
          for (const socket of connections) socket.destroy();
        }),
    );
  }

  async dns(netns: string, ip: string, names: Names): Promise<void> {
    const address = new IpPort(Ip.parse(ip), 53);
    const udp = await serveDnsUdp(openSocketIn({ netns, type: SOCK_DGRAM, address }), names);
    this.#closers.push(() => new Promise((resolve) => udp.close(() => resolve())));
    await this.tcp(netns, ip, 53, serveDnsTcp(names));
  }

  async close(): Promise<void> {
    await Promise.all(this.#closers.splice(0).map((close) => close()));
  }
}
