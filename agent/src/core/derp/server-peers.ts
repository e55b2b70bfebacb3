/** Who is connected under which key, and who has heard from whom. */
import { KEY_LENGTH, type NodePublic } from "../../base/keys.ts";
import { keyName } from "./key-name.ts";
import type { Peer, ServerConnection } from "./server-connection.ts";

export class PeerTable {
  readonly #peers = new Map<string, Peer>();

  /** Adds a connection of a key; the newest is the active one, and the others stay. */
  add(key: NodePublic, connection: ServerConnection): Peer {
    const keyBytes = key.bytes;
    const name = keyName(keyBytes, 0);
    const known = this.#peers.get(name);
    if (known !== undefined) {
      known.connections.add(connection);
      known.active = connection;
      return known;
    }
    const peer: Peer = {
      name,
      keyBytes,
      connections: new Set([connection]),
      active: connection,
      heardBy: new Set(),
    };
    this.#peers.set(name, peer);
    return peer;
  }

  /** The peer whose 32-byte key stands at `at`. */
  find(bytes: Uint8Array, at: number): Peer | undefined {
    return bytes.length < at + KEY_LENGTH ? undefined : this.#peers.get(keyName(bytes, at));
  }

  /** Records that a packet of `from` reaches the active connection of `to`. */
  noteHeard(from: ServerConnection, to: Peer): void {
    const sender = from.login?.peer;
    if (sender === undefined) return;
    from.lastRoute = to;
    from.lastTo = to.active;
    sender.heardBy.add(to.active);
    to.active.heard.add(sender);
  }

  /** @returns the connections to tell that the key is gone: none while another connection of it remains */
  remove(connection: ServerConnection, peer: Peer): readonly ServerConnection[] {
    peer.connections.delete(connection);
    for (const sender of connection.heard) sender.heardBy.delete(connection);
    connection.heard.clear();
    const remaining = [...peer.connections].at(-1);
    if (remaining !== undefined) {
      if (peer.active === connection) peer.active = remaining;
      return [];
    }
    this.#peers.delete(peer.name);
    for (const listener of peer.heardBy) listener.heard.delete(peer);
    return [...peer.heardBy];
  }
}
