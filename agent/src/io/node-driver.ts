/**
 * Connects the node engine to the world: the UDP socket, the tunnel device, the relays'
 * streams and the clock. All decisions are the engine's.
 */
import type { Log } from "../base/log.ts";
import type { Instant } from "../base/time.ts";
import type { RegionId } from "../core/path/path.ts";
import type { FastPath } from "../engine/fast-path.ts";
import type { Node, NodeEvent } from "../engine/node.ts";
import { now, Wakeup } from "./clock.ts";
import type { RelayConnection } from "./relay-stream.ts";
import type { PacketDevice } from "./tun.ts";
import type { UdpSocket } from "./udp.ts";

export interface DriverOptions {
  readonly node: Node;
  readonly udp: UdpSocket;
  readonly device: PacketDevice;
  /** Moves packets beside the engine, which tells it how. */
  readonly fastPath?: FastPath | undefined;
  readonly log: Log;
  readonly dial: (region: RegionId, signal: AbortSignal) => Promise<RelayConnection>;
  readonly onEvent: (event: NodeEvent) => void;
}

interface Connection {
  readonly abort: AbortController;
  stream: RelayConnection | undefined;
}

export class NodeDriver {
  readonly #options: DriverOptions;
  readonly #connections = new Map<RegionId, Connection>();
  readonly #wakeup = new Wakeup();
  #draining = false;
  #closed = false;

  constructor(options: DriverOptions) {
    this.#options = options;
    const { node, udp, device, fastPath } = options;
    udp.onDatagram((from, payload) => this.input((at) => node.handleDatagram(from, payload, at)));
    udp.onError((to) => this.input((at) => node.handleSendError(to, at)));
    device.onPackets((packets) => {
      const at = now();
      for (const packet of packets) node.handlePacket(packet, at);
      this.#drain();
    });
    fastPath?.onPassed({
      passed: (peer, traffic) => this.input((at) => node.handlePassed(peer, traffic, at)),
      roamed: (peer, from) => this.input((at) => node.handleRoamed(peer, from, at)),
      sent: (peer, message) => this.input((at) => node.handleSentMessage(peer, message, at)),
      sealed: (peer, messages) => this.input((at) => node.handleSealed(peer, messages, at)),
      opened: (peer, packet) => this.input((at) => node.handleOpenedPacket(peer, packet, at)),
    });
  }

  /** Gives the engine one input and does what it then wants done. */
  input<T>(give: (at: Instant) => T): T {
    const result = give(now());
    this.#drain();
    return result;
  }

  close(): void {
    this.#closed = true;
    this.#wakeup.cancel();
    for (const { abort, stream } of this.#connections.values()) {
      abort.abort();
      stream?.close();
    }
    this.#connections.clear();
  }

  #drain(): void {
    if (this.#draining || this.#closed) return;
    this.#draining = true;
    const { node, udp, device, fastPath } = this.#options;
    for (let decision = node.pollDecision(); decision !== undefined; decision = node.pollDecision())
      fastPath?.decide(decision);
    for (let out = node.pollDatagram(); out !== undefined; out = node.pollDatagram())
      if (out.whole === true) udp.sendWhole?.(out.to, out.payload);
      else udp.send(out.to, out.payload);
    for (let packet = node.pollPacket(); packet !== undefined; packet = node.pollPacket())
      device.write(packet);
    for (let out = node.pollRelayBytes(); out !== undefined; out = node.pollRelayBytes()) {
      const writable = this.#connections.get(out.region)?.stream?.write(out.bytes) ?? true;
      if (!writable) node.handleRelayWritable(out.region, false, now());
    }
    for (let event = node.pollEvent(); event !== undefined; event = node.pollEvent())
      this.#handleEvent(event);
    this.#draining = false;
    this.#wakeup.wakeAt(node.pollTimeout(), () => {
      fastPath?.hear();
      this.input((at) => node.handleTimeout(at));
    });
  }

  #handleEvent(event: NodeEvent): void {
    if (event.kind === "dial") void this.#dial(event.region);
    if (event.kind === "hang-up") this.#hangUp(event.region);
    this.#options.onEvent(event);
  }

  async #dial(region: RegionId): Promise<void> {
    const { node, log, dial } = this.#options;
    this.#hangUp(region);
    const connection: Connection = { abort: new AbortController(), stream: undefined };
    this.#connections.set(region, connection);
    const closed = (why: string): void => {
      if (this.#connections.get(region) !== connection) return;
      this.#connections.delete(region);
      log.info("relay-closed", { region, why });
      if (!this.#closed) this.input((at) => node.handleRelayClosed(region, why, at));
    };
    try {
      const stream = await dial(region, connection.abort.signal);
      if (this.#connections.get(region) !== connection) {
        stream.close();
        return;
      }
      connection.stream = stream;
      stream.onData((chunk) => this.input((at) => node.handleRelayBytes(region, chunk, at)));
      stream.onWritable(() => this.input((at) => node.handleRelayWritable(region, true, at)));
      stream.onClose(closed);
      this.input((at) => node.handleRelayOpened(region, stream.serverKey, at));
    } catch (error) {
      closed(error instanceof Error ? error.message : String(error));
    }
  }

  #hangUp(region: RegionId): void {
    const connection = this.#connections.get(region);
    this.#connections.delete(region);
    connection?.abort.abort();
    connection?.stream?.close();
  }
}
