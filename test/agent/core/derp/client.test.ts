import fc from "fast-check";
import { NodePublic } from "../../../../agent/src/base/keys.ts";
import { DerpClient, type DerpClientEvent } from "../../../../agent/src/core/derp/client.ts";
import { encodeFrame } from "../../../../agent/src/core/derp/frame.ts";
import { encodeServerInfo, loginKey, publicOf } from "../../../../agent/src/core/derp/login.ts";
import { seededRandom } from "../../../sim/random.ts";
import { at, framesOf, keyOf, start, suite } from "./support.ts";

const serverKey = publicOf(suite, keyOf("server"));
const peer = publicOf(suite, keyOf("client_b"));
const greeting = encodeFrame({ kind: "server-key", serverKey });
const disco = Uint8Array.of(0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac, ...new Uint8Array(56));

function newClient(known: boolean, preferred = false): DerpClient {
  return new DerpClient(
    {
      suite,
      random: seededRandom(1),
      nodeKey: keyOf("client_a"),
      serverKey: known ? serverKey : undefined,
      preferred,
    },
    start,
  );
}

function serverInfo(bytesPerSecond = 0, burstBytes = 0): Uint8Array {
  const key = loginKey(suite, keyOf("server"), publicOf(suite, keyOf("client_a")));
  if (key === undefined) throw new Error("no key");
  return encodeServerInfo(key, { version: 2, bytesPerSecond, burstBytes }, seededRandom(2));
}

function loggedIn(bytesPerSecond = 0, burstBytes = 0): DerpClient {
  const client = newClient(false);
  client.handleBytes(greeting, start);
  client.handleBytes(serverInfo(bytesPerSecond, burstBytes), start);
  client.pollTransmit();
  eventsOf(client);
  return client;
}

function eventsOf(client: DerpClient): readonly DerpClientEvent[] {
  const events: DerpClientEvent[] = [];
  for (let event = client.pollEvent(); event !== undefined; event = client.pollEvent()) events.push(event);
  return events;
}

const kindsOf = (bytes: Uint8Array | undefined): readonly string[] =>
  framesOf(bytes ?? new Uint8Array(0)).map((frame) => (typeof frame === "string" ? frame : frame.kind));

test("with the relay's key known, login, home and the first packets leave as one write", () => {
  const client = newClient(true, true);
  client.send(peer, Uint8Array.of(1), start);

  expect(kindsOf(client.pollTransmit())).toEqual(["client-info", "note-preferred", "send-packet"]);
  expect(client.pollTransmit()).toBeUndefined();
});

test("without the key, packets wait for the greeting and leave behind the login", () => {
  const client = newClient(false);
  client.send(peer, Uint8Array.of(1), start);
  expect(client.pollTransmit()).toBeUndefined();

  client.handleBytes(greeting, start);

  expect(kindsOf(client.pollTransmit())).toEqual(["client-info", "send-packet"]);
});

test("a change of home is told once per change", () => {
  const client = newClient(true, true);
  client.pollTransmit();
  client.notePreferred(true);
  expect(client.pollTransmit()).toBeUndefined();
  client.notePreferred(false);
  expect(kindsOf(client.pollTransmit())).toEqual(["note-preferred"]);
});

test("a home chosen before the login goes with it", () => {
  const client = newClient(false);
  client.notePreferred(true);
  client.handleBytes(greeting, start);
  expect(kindsOf(client.pollTransmit())).toEqual(["client-info", "note-preferred"]);
});

test("path discovery leaves before data", () => {
  const client = loggedIn();
  client.send(peer, Uint8Array.of(1), start);
  client.send(peer, disco, start);
  expect(framesOf(client.pollTransmit() ?? greeting)).toMatchObject([
    { packet: disco },
    { packet: Uint8Array.of(1) },
  ]);
});

test("while the connection takes nothing, the newest 256 packets wait", () => {
  const client = loggedIn();
  client.handleWritable(false);
  for (let i = 0; i < 300; i++) client.send(peer, Uint8Array.of(i >> 8, i), start);
  expect(client.pollTransmit()).toBeUndefined();

  client.handleWritable(true);

  const frames = framesOf(client.pollTransmit() ?? greeting);
  expect(frames).toHaveLength(256);
  expect(frames[0]).toMatchObject({ packet: Uint8Array.of(0, 44) });
  expect(frames[255]).toMatchObject({ packet: Uint8Array.of(1, 43) });
});

test("packets above the relay's limit are dropped until the bucket has filled again", () => {
  const client = loggedIn(1000, 200);
  const packet = new Uint8Array(63); // 100 bytes on the wire
  const tries = (now: number): boolean[] => [1, 2, 3].map(() => client.send(peer, packet, at(now)));

  expect(tries(0)).toEqual([true, true, false]);
  expect(tries(100)).toEqual([true, false, false]);
  expect(tries(10_000)).toEqual([true, true, false]);
});

test("a packet above 65536 bytes is not sent", () => {
  const client = loggedIn();
  expect(client.send(peer, new Uint8Array(65_537), start)).toBe(false);
  expect(client.send(peer, new Uint8Array(65_536), start)).toBe(true);
});

test.each([
  { name: "no greeting", feed: [], from: 0 },
  { name: "no answer to the login", feed: [greeting], from: 5000 },
])("$name within 10 s is the end", ({ feed, from }) => {
  const client = newClient(false);
  for (const bytes of feed) client.handleBytes(bytes, at(from));
  expect(client.pollTimeout()).toBe(10_000);
  client.handleTimeout(at(9_999));
  expect(eventsOf(client)).toEqual([]);
  client.handleTimeout(at(10_000));

  expect(eventsOf(client)).toEqual([
    { kind: "closed", why: "the relay did not answer the login within 10 s" },
  ]);
  expect(client.pollTimeout()).toBeUndefined();
  expect(client.send(peer, Uint8Array.of(1), at(10_000))).toBe(false);
});

test("120 s without a frame are the end, and each frame begins them anew", () => {
  const client = loggedIn();
  client.handleTimeout(at(60_000));
  client.handleBytes(encodeFrame({ kind: "keep-alive" }), at(65_000));
  expect(client.pollTimeout()).toBe(185_000);
  client.handleTimeout(at(184_999));
  expect(client.isClosed).toBe(false);
  client.handleTimeout(at(185_000));
  expect(eventsOf(client)).toEqual([{ kind: "closed", why: "the relay was silent for 120 s" }]);
});

test("a server info that the relay's key did not seal is the end", () => {
  const client = newClient(true);
  const forged = serverInfo();
  forged[40] = (forged[40] ?? 0) ^ 1;
  client.handleBytes(forged, start);
  expect(eventsOf(client)).toMatchObject([{ kind: "closed" }]);
});

test("a frame of more than 1 MiB is the end", () => {
  const client = loggedIn();
  client.handleBytes(Uint8Array.of(0x05, 0, 0x10, 0, 1), start);
  expect(eventsOf(client)).toMatchObject([{ kind: "closed" }]);
});

test("packets before the relay has proven its key are not believed", () => {
  const client = newClient(true);
  client.handleBytes(encodeFrame({ kind: "recv-packet", from: peer, packet: Uint8Array.of(1) }), start);
  expect(eventsOf(client)).toEqual([]);
});

test("whatever the relay sends, nothing is thrown and nobody is impersonated", () => {
  fc.assert(
    fc.property(fc.boolean(), fc.array(fc.uint8Array({ maxLength: 60 })), (known, chunks) => {
      const client = newClient(known);
      for (const chunk of chunks) client.handleBytes(chunk, start);
      expect(client.ready).toBe(false);
      expect(eventsOf(client).filter((event) => event.kind === "packet")).toEqual([]);
    }),
  );
});

test("many senders are told apart", () => {
  const client = loggedIn();
  const senders = [1, 2, 1, 3, 2].map((n) => NodePublic.fromBytes(new Uint8Array(32).fill(n)));
  for (const from of senders) {
    client.handleBytes(encodeFrame({ kind: "recv-packet", from, packet: Uint8Array.of(1) }), start);
  }
  expect(eventsOf(client).map((event) => event.kind === "packet" && event.from.text)).toEqual(
    senders.map((key) => key.text),
  );
});
