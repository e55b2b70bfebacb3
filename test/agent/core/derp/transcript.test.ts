import { concat, toHex } from "../../../../agent/src/base/bytes.ts";
import { NodePublic } from "../../../../agent/src/base/keys.ts";
import { DerpClient, type DerpClientEvent } from "../../../../agent/src/core/derp/client.ts";
import { DerpServer } from "../../../../agent/src/core/derp/server.ts";
import { seededRandom } from "../../../sim/random.ts";
import { hex } from "../../../vectors/load.ts";
import {
  derpVectors,
  framesOf,
  keyOf,
  remote,
  scriptedRandom,
  start,
  suite,
  type TranscriptLine,
} from "./support.ts";

const { transcript, keys, frames, decoded_by_client } = derpVectors;
const bPublic = NodePublic.parse(keys.client_b.public);
const aPublic = NodePublic.parse(keys.client_a.public);

const bytesOf = (lines: readonly TranscriptLine[], dir: TranscriptLine["dir"]): string =>
  lines
    .filter((line) => line.dir === dir)
    .map((line) => line.bytes)
    .join("");
const sent = (lines: readonly TranscriptLine[]): Uint8Array[] =>
  lines.filter((line) => line.dir === "client->server").map((line) => hex(line.bytes));
/** The nonce of a client info (after type, length and key) or a server info (after type and length). */
const nonceAt = (line: string | undefined, offset: number): Uint8Array =>
  hex(line ?? "").slice(offset, offset + 24);

test("the relay answers a published session byte for byte", () => {
  const { client_a: a, client_b: b } = transcript;
  const jitter = new Uint8Array(4);
  const server = new DerpServer({
    suite,
    random: scriptedRandom(jitter, jitter, nonceAt(a[2]?.bytes, 5), nonceAt(b[2]?.bytes, 5)),
    serverKey: keyOf("server"),
  });
  const got = new Map<number, Uint8Array[]>([
    [1, []],
    [2, []],
  ]);
  const drain = (): void => {
    for (let out = server.pollTransmit(); out !== undefined; out = server.pollTransmit()) {
      got.get(out.conn)?.push(out.bytes.slice());
    }
  };
  const say = (conn: number, bytes: Uint8Array | undefined): void => {
    server.handleBytes(conn, bytes?.slice() ?? new Uint8Array(0), start);
    drain();
  };
  server.handleOpen(1, remote, start);
  server.handleOpen(2, remote, start);
  const [aLogin, aPreferred, aToB, ...aRest] = sent(a);
  const [bLogin, bReply] = sent(b);
  for (const [conn, bytes] of [
    [1, aLogin],
    [2, bLogin],
    [1, aPreferred],
    [1, aToB],
    [2, bReply],
  ] as const) {
    say(conn, bytes);
  }
  for (const bytes of aRest) say(1, bytes);
  server.handleClosed(2, start);
  drain();

  expect(toHex(concat(...(got.get(1) ?? [])))).toBe(bytesOf(a, "server->client"));
  expect(toHex(concat(...(got.get(2) ?? [])))).toBe(bytesOf(b, "server->client"));
  expect(server.pollClose()).toBeUndefined();
  expect(server.counters).toMatchObject({ packetsReceived: 4, packetsSent: 2, peerGoneNotHere: 1 });
});

test.each([{ fastStart: false }, { fastStart: true }])(
  "a client holds a published session (fast start: $fastStart)",
  ({ fastStart }) => {
    const lines = transcript.client_a;
    const client = new DerpClient(
      {
        suite,
        random: scriptedRandom(nonceAt(lines[1]?.bytes, 5 + 32), hex("0908070605040302")),
        nodeKey: keyOf("client_a"),
        serverKey: fastStart ? NodePublic.parse(keys.server.public) : undefined,
        preferred: true,
      },
      start,
    );
    const sentBytes: Uint8Array[] = [];
    const events: DerpClientEvent[] = [];
    const drain = (): void => {
      for (let out = client.pollTransmit(); out !== undefined; out = client.pollTransmit())
        sentBytes.push(out);
      for (let event = client.pollEvent(); event !== undefined; event = client.pollEvent())
        events.push(event);
    };
    drain();
    expect(sentBytes).toHaveLength(fastStart ? 1 : 0);
    for (const line of lines) {
      if (line.dir === "server->client") client.handleBytes(hex(line.bytes), start);
      else if (line.bytes.startsWith("04")) {
        const [frame] = framesOf(hex(line.bytes));
        if (typeof frame !== "object" || frame.kind !== "send-packet") throw new Error("no packet");
        client.send(frame.to, frame.packet, start);
      } else if (line.bytes.startsWith("12")) client.ping();
      drain();
    }

    expect(toHex(concat(...sentBytes))).toBe(bytesOf(lines, "client->server"));
    const unknown = framesOf(hex(lines[8]?.bytes ?? ""))[0];
    expect(events).toEqual([
      { kind: "ready", serverKey: NodePublic.parse(keys.server.public) },
      { kind: "packet", from: bPublic, packet: new TextEncoder().encode("reply") },
      {
        kind: "peer-gone",
        peer: typeof unknown === "object" && unknown.kind === "send-packet" ? unknown.to : undefined,
        reason: 1,
      },
      { kind: "peer-gone", peer: bPublic, reason: 0 },
    ]);
  },
);

test("the published exchange of the other client holds too", () => {
  const lines = transcript.client_b;
  expect(sent(lines).flatMap((bytes) => framesOf(bytes))).toMatchObject([
    { kind: "client-info", client: bPublic },
    { kind: "send-packet", to: aPublic },
  ]);
});

/** What a published frame means to a client that is logged in. */
const meaning: Readonly<Record<string, (decoded: Readonly<Record<string, unknown>>) => object>> = {
  "derp.ReceivedPacket": (d) => ({
    kind: "packet",
    from: NodePublic.parse(String(d["Source"])),
    packet: Uint8Array.from(Buffer.from(String(d["Data"]), "base64")),
  }),
  "derp.PeerGoneMessage": (d) => ({
    kind: "peer-gone",
    peer: NodePublic.parse(String(d["Peer"])),
    reason: d["Reason"],
  }),
  "derp.HealthMessage": (d) => ({ kind: "health", text: d["Problem"] }),
  "derp.ServerRestartingMessage": (d) => ({
    kind: "restarting",
    reconnectIn: Number(d["ReconnectIn"]) / 1e6,
    tryFor: Number(d["TryFor"]) / 1e6,
  }),
};

test.each(decoded_by_client.filter((v) => v.go_type !== "derp.ServerInfoMessage"))(
  "a client understands '$name'",
  ({ name, go_type, decoded }) => {
    const client = loggedIn();
    client.handleBytes(hex(frames.find((v) => v.name === name)?.frame ?? ""), start);
    const events: DerpClientEvent[] = [];
    for (let event = client.pollEvent(); event !== undefined; event = client.pollEvent()) events.push(event);

    const want = meaning[go_type];
    expect(events).toEqual(want === undefined ? [] : [want(decoded as Record<string, unknown>)]);
    const pong = Array.isArray(decoded) ? Uint8Array.of(0x13, 0, 0, 0, 8, ...decoded) : undefined;
    expect(client.pollTransmit()).toEqual(go_type === "derp.PingMessage" ? pong : undefined);
  },
);

function loggedIn(): DerpClient {
  const client = new DerpClient(
    { suite, random: seededRandom(1), nodeKey: keyOf("client_a"), serverKey: undefined, preferred: false },
    start,
  );
  client.handleBytes(hex(transcript.client_a[0]?.bytes ?? ""), start);
  client.handleBytes(hex(transcript.client_a[2]?.bytes ?? ""), start);
  while (client.pollTransmit() !== undefined || client.pollEvent() !== undefined);
  return client;
}
