/**
 * A host's UDP port behind a simulated NAT, from real sockets on the loopback interface: what the agent gets in place of its
 * own socket where no namespaces can be made. The words are RFC 4787's.
 *
 *   agent ── send(to) ──▶ mapping for `to` ── socket on 127.0.0.1 ──▶ to
 *   agent ◀─ filter: has this mapping sent to `from`? ◀── socket ◀── from
 */
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import type { AddressInfo } from "node:net";
import { Ip, IpPort } from "../agent/src/base/address.ts";
import type { UdpSocket } from "../agent/src/io/udp.ts";

export interface NatBehaviour {
  /** One outside port for all destinations, or one for each. */
  readonly mapping: "endpoint-independent" | "address-and-port-dependent";
  /** Who may answer: everybody, or only those who were sent to. All hosts share one address, so ports alone tell them apart. */
  readonly filtering: "endpoint-independent" | "address-and-port-dependent";
  /** Nothing passes in either direction. */
  readonly blocked: boolean;
}

interface Mapping {
  readonly socket: Socket;
  readonly sentTo: Set<string>;
}

const LOOPBACK = "127.0.0.1";
/** The key of the one mapping that serves all destinations. */
const EVERYWHERE = "*";
/** Like a real NAT's table: who opens more is cut off. */
const MAPPING_LIMIT = 256;

export class LoopbackNat implements UdpSocket {
  readonly hasV6 = false;
  readonly marked = false;
  readonly localPort: number;
  readonly #behaviour: NatBehaviour;
  readonly #mappings = new Map<string, Mapping>();
  #receive: (from: IpPort, payload: Uint8Array) => void = () => {};
  #report: (to: IpPort, code: string) => void = () => {};
  #dropped = 0;
  #closed = false;

  private constructor(behaviour: NatBehaviour, first: Socket) {
    this.#behaviour = behaviour;
    this.localPort = (first.address() as AddressInfo).port;
    this.#adopt(EVERYWHERE, first);
  }

  /** Rejects with Node's error when the loopback interface has no port left. */
  static open(behaviour: NatBehaviour): Promise<LoopbackNat> {
    const socket = createSocket("udp4");
    return new Promise((resolve, reject) => {
      socket.once("error", reject);
      socket.bind({ address: LOOPBACK, port: 0, exclusive: true }, () => {
        socket.removeListener("error", reject);
        resolve(new LoopbackNat(behaviour, socket));
      });
    });
  }

  get dropped(): number {
    return this.#dropped;
  }

  /** The outside ports in use. */
  get outsidePorts(): number[] {
    return [...this.#mappings.values()].map(({ socket }) => (socket.address() as AddressInfo).port);
  }

  send(to: IpPort, payload: Uint8Array): void {
    if (this.#closed || this.#behaviour.blocked) return;
    // Private addresses of other networks lead nowhere from here, as they would from a real one.
    if (!to.ip.isLoopback) return this.#report(to, "ENETUNREACH");
    const mapping = this.#mappingFor(to);
    if (mapping === undefined) {
      this.#dropped++;
      return;
    }
    mapping.sentTo.add(to.text);
    mapping.socket.send(payload, to.port, to.ip.text, (error) => {
      if (error !== null && !this.#closed)
        this.#report(to, "code" in error ? String(error.code) : error.message);
    });
  }

  onDatagram(receive: (from: IpPort, payload: Uint8Array) => void): void {
    this.#receive = receive;
  }

  onError(report: (to: IpPort, code: string) => void): void {
    this.#report = report;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const sockets = [...this.#mappings.values()].map(({ socket }) => socket);
    await Promise.all(sockets.map((socket) => new Promise<void>((resolve) => socket.close(() => resolve()))));
  }

  #mappingFor(to: IpPort): Mapping | undefined {
    const key = this.#behaviour.mapping === "endpoint-independent" ? EVERYWHERE : to.text;
    const known = this.#mappings.get(key);
    if (known !== undefined || this.#mappings.size >= MAPPING_LIMIT) return known;
    const socket = createSocket("udp4");
    // What is sent before the port is bound waits for it inside Node.
    socket.bind({ address: LOOPBACK, port: 0, exclusive: true });
    return this.#adopt(key, socket);
  }

  #adopt(key: string, socket: Socket): Mapping {
    const mapping = { socket, sentTo: new Set<string>() };
    this.#mappings.set(key, mapping);
    socket.on("error", () => {}); // a datagram that finds nobody is lost, as in any network
    socket.on("message", (payload, info) => this.#filter(mapping, payload, info));
    return mapping;
  }

  #filter(mapping: Mapping, payload: Uint8Array, { address, port }: RemoteInfo): void {
    if (this.#closed || this.#behaviour.blocked) return;
    const from = new IpPort(Ip.parse(address), port);
    const open = this.#behaviour.filtering === "endpoint-independent";
    if (open || mapping.sentTo.has(from.text)) this.#receive(from, payload);
  }
}
