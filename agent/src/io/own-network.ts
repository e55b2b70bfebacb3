/**
 * The daemon's own connections: to relays, to the coordination server, and the look-ups of their names.
 *
 * They carry a mark by which the routing rules let them pass beside the tunnel. Without it the route to the exit
 * node would lead through the exit node.
 */
import { connect, type NetConnectOpts, Socket, type SocketConstructorOpts } from "node:net";
import { type Ip, IpPort } from "../base/address.ts";
import { OperationError } from "../base/errors.ts";
import { viewOf } from "../base/bytes.ts";
import { randomBytes } from "../base/random.ts";
import { type Millis, millis } from "../base/time.ts";
import { encodeQuestion, parseAnswer, recordType, type RecordType } from "../core/dns/message.ts";
import { literalIn, resolveHost } from "./dns.ts";
import { isAbsent } from "./ffi/koffi.ts";
import { AF_INET, AF_INET6, errnoName, loadLibc, SO_MARK, SOCK_STREAM, SOL_SOCKET } from "./ffi/libc.ts";
import { systemRandom } from "./random.ts";
import { hostsAddresses, readSystemDns, type SystemDnsFiles } from "./system-dns.ts";
import { bindUdp } from "./udp.ts";

/** How connections of the daemon itself are made. */
export interface OwnNetwork {
  /** @param from the local address to connect from */
  connect(to: IpPort, from: Ip | undefined): Socket;
  /** @throws OperationError */
  resolve(host: string, port: number): Promise<readonly IpPort[]>;
}

/** As every program does it. */
export const plainNetwork: OwnNetwork = {
  connect: (to, from) => connect(targetOf(to, from)),
  resolve: (host, port) => resolveHost(host, port),
};

export interface MarkedOptions {
  /** SO_MARK. */
  readonly mark: number;
  readonly files?: SystemDnsFiles;
  /** Of the DNS servers. @default 53 */
  readonly dnsPort?: number;
}

/** A DNS server that has not answered by then is passed over. */
const SERVER_LIMIT: Millis = millis(1500);
/** Those that the C library asks (resolv.conf(5)). */
const MAX_SERVERS = 3;

/**
 * Connections and questions with a mark. Names are looked up in /etc/hosts, then at the machine's DNS servers, then
 * by the system (through the tunnel), and where all of that fails the last known addresses do.
 */
export class MarkedNetwork implements OwnNetwork {
  readonly #options: MarkedOptions;
  readonly #known = new Map<string, readonly Ip[]>();

  constructor(options: MarkedOptions) {
    this.#options = options;
  }

  connect(to: IpPort, from: Ip | undefined): Socket {
    const socket = markedSocket(to, this.#options.mark);
    socket.connect(targetOf(to, from));
    return socket;
  }

  async resolve(host: string, port: number): Promise<readonly IpPort[]> {
    const literal = literalIn(host);
    if (literal !== undefined) return [new IpPort(literal, port)];
    const found = await this.#find(host);
    this.#known.set(host, found);
    return found.map((ip) => new IpPort(ip, port));
  }

  async #find(host: string): Promise<readonly Ip[]> {
    const listed = hostsAddresses(host, this.#options.files);
    if (listed.length > 0) return listed;
    const answered = await this.#ask(host);
    if (answered.length > 0) return answered;
    const known = this.#known.get(host);
    if (known !== undefined) return known;
    return (await resolveHost(host, 0)).map(({ ip }) => ip);
  }

  async #ask(host: string): Promise<readonly Ip[]> {
    const { files, mark, dnsPort = 53 } = this.#options;
    for (const server of readSystemDns(files).servers.slice(0, MAX_SERVERS)) {
      const to = new IpPort(server, dnsPort);
      const answers = await Promise.all(
        [recordType.a, recordType.aaaa].map((type) => askServer(to, host, type, mark)),
      );
      const addresses = answers.flatMap((answer) => answer ?? []);
      if (addresses.length > 0) return addresses;
    }
    return [];
  }
}

function targetOf(to: IpPort, from: Ip | undefined): NetConnectOpts {
  const local = from !== undefined && from.isV4 === to.ip.isV4 ? { localAddress: from.text } : {};
  return { host: to.ip.text, port: to.port, noDelay: true, ...local };
}

/** A TCP socket whose mark is set before its first packet. @throws OperationError */
function markedSocket(to: IpPort, mark: number): Socket {
  const libc = loadLibc();
  if (isAbsent(libc)) throw new OperationError("own-mark", `a socket can not be marked here: ${libc.absent}`);
  const fd = libc.socket(to.ip.isV4 ? AF_INET : AF_INET6, SOCK_STREAM, 0);
  if (fd < 0) throw Object.assign(new Error("socket"), { code: errnoName(fd) });
  const marked = libc.setsockopt(fd, SOL_SOCKET, SO_MARK, mark);
  if (marked < 0) {
    libc.close(fd);
    throw new OperationError(
      "own-mark",
      `a socket can not be marked (${errnoName(marked)}), so it would be caught by the tunnel: run as root or give CAP_NET_ADMIN`,
    );
  }
  // Without manualStart Node reads from it before it is connected.
  const options: SocketConstructorOpts & { readonly manualStart: boolean } = { fd, manualStart: true };
  return new Socket(options);
}

/** undefined where no usable answer came. */
async function askServer(
  server: IpPort,
  host: string,
  type: RecordType,
  mark: number,
): Promise<readonly Ip[] | undefined> {
  const question = encodeQuestion(viewOf(randomBytes(systemRandom, 2)).getUint16(0), host, type);
  if (question === undefined) return undefined;
  const socket = await bindUdp({ port: 0, mark }).catch(() => undefined);
  if (socket === undefined) return undefined;
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise<readonly Ip[] | undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), SERVER_LIMIT);
      socket.onError(() => resolve(undefined));
      socket.onDatagram((from, payload) => {
        if (from.text !== server.text) return;
        const answer = parseAnswer(payload, question);
        if (answer !== "malformed") resolve(answer.addresses);
      });
      socket.send(server, question);
    });
  } finally {
    clearTimeout(timer);
    await socket.close();
  }
}
