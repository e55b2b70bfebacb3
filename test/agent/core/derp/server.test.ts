import fc from "fast-check";
import { concat } from "../../../../agent/src/base/bytes.ts";
import { NodePrivate } from "../../../../agent/src/base/keys.ts";
import { encodeFrame } from "../../../../agent/src/core/derp/frame.ts";
import { publicOf } from "../../../../agent/src/core/derp/login.ts";
import { DerpServer } from "../../../../agent/src/core/derp/server.ts";
import { seededRandom } from "../../../sim/random.ts";
import { at, derpVectors, framesOf, keyOf, RelayWorld, remote, start, suite } from "./support.ts";

const a = keyOf("client_a");
const b = keyOf("client_b");
const c = new NodePrivate(new Uint8Array(32).fill(0x31));
const nobody = new NodePrivate(new Uint8Array(32).fill(0x32));
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const disco = Uint8Array.of(0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac, ...new Uint8Array(56));

test.each([{ fastStart: false }, { fastStart: true }])(
  "two clients reach each other by key (fast start: $fastStart)",
  ({ fastStart }) => {
    const world = new RelayWorld();
    const [atA, atB] = [world.join(a, fastStart), world.join(b, fastStart)];
    world.send(atA, b, bytes("hello"));
    world.send(atB, a, bytes("reply"));
    expect(world.packets(atB)).toEqual(["hello"]);
    expect(world.packets(atA)).toEqual(["reply"]);
  },
);

test("a packet to oneself comes back", () => {
  const world = new RelayWorld();
  const atA = world.join(a);
  world.send(atA, a, bytes("self"));
  expect(world.packets(atA)).toEqual(["self"]);
});

test("the packets of one chunk for one reader leave as one write, without a copy", () => {
  const world = new RelayWorld();
  const [atA, atB] = [world.join(a), world.join(b)];
  const to = publicOf(suite, b);
  const chunk = concat(
    ...["one", "two", "three"].map((text) => encodeFrame({ kind: "send-packet", to, packet: bytes(text) })),
  );
  world.server.handleBytes(atA, chunk, start);

  const out = world.server.pollTransmit();
  expect(out?.conn).toBe(atB);
  expect(out?.bytes.buffer).toBe(chunk.buffer);
  expect(framesOf(out?.bytes ?? chunk)).toMatchObject(
    ["one", "two", "three"].map((text) => ({
      kind: "recv-packet",
      from: publicOf(suite, a),
      packet: bytes(text),
    })),
  );
  expect(world.server.pollTransmit()).toBeUndefined();
});

test("a packet for nobody is dropped in silence; path discovery is told, three times and then once a second", () => {
  const world = new RelayWorld();
  const atA = world.join(a);
  world.take(atA);
  world.send(atA, nobody, bytes("data"));
  expect(world.take(atA)).toEqual([]);

  for (let i = 0; i < 5; i++) world.send(atA, nobody, disco);
  const gone = { kind: "peer-gone", peer: publicOf(suite, nobody), reason: 1 };
  expect(world.take(atA)).toEqual([gone, gone, gone]);
  world.wait(at(1000));
  for (let i = 0; i < 5; i++) world.send(atA, nobody, disco);
  expect(world.take(atA)).toEqual([gone]);
  expect(world.server.counters.dropped.unknownDestination).toBe(11);
});

describe("one key, two connections", () => {
  test("packets go to the connection heard from last", () => {
    const world = new RelayWorld();
    const [old, young, atB] = [world.join(a), world.join(a), world.join(b)];
    world.send(atB, a, bytes("to young"));
    world.send(old, b, bytes("I am here"));
    world.send(atB, a, bytes("to old"));
    expect(world.packets(young)).toEqual(["to young"]);
    expect(world.packets(old)).toEqual(["to old"]);
  });

  test("when one ends, the other gets the packets and nobody is told", () => {
    const world = new RelayWorld();
    const [old, young, atB] = [world.join(a), world.join(a), world.join(b)];
    world.send(young, b, bytes("hi"));
    world.send(atB, a, bytes("to young"));
    world.leave(young);
    world.send(atB, a, bytes("to old"));
    expect(world.packets(old)).toEqual(["to old"]);
    expect(world.take(atB).filter((event) => event.kind === "peer-gone")).toEqual([]);

    world.leave(old);
    expect(world.take(atB)).toEqual([{ kind: "peer-gone", peer: publicOf(suite, a), reason: 0 }]);
  });

  test("a key that left and came back is reached anew", () => {
    const world = new RelayWorld();
    const [first, atB] = [world.join(a), world.join(b)];
    world.send(atB, a, bytes("one"));
    world.leave(first);
    world.send(atB, a, bytes("lost"));
    const second = world.join(a);
    world.send(atB, a, bytes("two"));
    expect(world.packets(second)).toEqual(["two"]);
  });
});

test("only those who have received from a key are told that it is gone", () => {
  const world = new RelayWorld();
  const [atA, atB, atC] = [world.join(a), world.join(b), world.join(c)];
  world.send(atA, b, bytes("to b"));
  world.send(atC, a, bytes("from c"));
  for (const conn of [atB, atC]) world.take(conn);
  world.leave(atA);

  expect(world.take(atB)).toEqual([{ kind: "peer-gone", peer: publicOf(suite, a), reason: 0 }]);
  expect(world.take(atC)).toEqual([]);
});

describe("a slow reader", () => {
  test("loses its oldest packets and holds nobody back", () => {
    const world = new RelayWorld();
    const [atA, slow, quick] = [world.join(a), world.join(b), world.join(c)];
    world.server.handleWritable(slow, false, world.now);
    for (let i = 0; i < 1100; i++) {
      world.send(atA, b, bytes(`b${i}`));
      if (i % 100 === 0) world.send(atA, c, bytes(`c${i}`));
    }
    world.send(atA, b, disco);
    expect(world.packets(quick)).toHaveLength(11);
    expect(world.packets(slow)).toEqual([]);

    world.server.handleWritable(slow, true, world.now);
    world.run();
    const got = world.packets(slow);
    expect(got).toHaveLength(1025);
    expect(got[0]).toBe(Buffer.from(disco).toString("utf8"));
    expect(got.slice(1, 3)).toEqual(["b76", "b77"]);
    expect(got.at(-1)).toBe("b1099");
    expect(world.server.counters.dropped.queueFull).toBe(76);
  });

  test("is held to a megabyte", () => {
    const world = new RelayWorld();
    const [atA, slow] = [world.join(a), world.join(b)];
    world.server.handleWritable(slow, false, world.now);
    for (let i = 0; i < 40; i++) world.send(atA, b, new Uint8Array(65_536));
    expect(world.server.counters.dropped.queueFull).toBe(25);
  });

  test("is closed when it takes nothing for 2 s, and not while some bytes leave", () => {
    const world = new RelayWorld();
    const slow = world.join(b);
    world.server.handleWritable(slow, false, at(0));
    world.wait(at(1900));
    world.server.handleWritable(slow, false, at(1900));
    world.wait(at(3800));
    expect(world.closed.size).toBe(0);
    world.wait(at(4100));
    expect(world.closed.get(slow)).toBe("it took no bytes for 2 s");
    expect(world.server.counters).toMatchObject({ writeTimeouts: 1, connections: 0 });
  });
});

test("a quiet connection is kept alive every 60 to 65 s", () => {
  const world = new RelayWorld();
  const atA = world.join(a);
  const before = world.client(atA).lastFrameAt;
  world.wait(at(59_000));
  expect(world.client(atA).lastFrameAt).toBe(before);
  world.wait(at(65_200));
  expect(world.client(atA).lastFrameAt).toBeGreaterThanOrEqual(60_000);
  world.wait(at(3_600_000));
  expect(world.client(atA).isClosed).toBe(false);
});

test("who does not log in within 10 s is closed", () => {
  const world = new RelayWorld();
  world.server.handleOpen(77, remote, start);
  world.wait(at(9_999));
  expect(world.closed.size).toBe(0);
  world.wait(at(10_100));
  expect(world.closed.get(77)).toBe("it did not log in within 10 s");
});

test("a key that is not allowed is closed after its client info, with no frame", () => {
  const world = new RelayWorld({ allow: (key) => key.text !== publicOf(suite, b).text });
  const [atA, atB] = [world.join(a), world.join(b)];
  expect(world.closed.get(atB)).toBe("its key is not allowed here");
  expect(world.client(atA).ready).toBe(true);
  expect(world.take(atB)).toEqual([]);
});

const clientInfo = Buffer.from(derpVectors.transcript.client_a[1]?.bytes ?? "", "hex");
test.each([
  { name: "a packet before the login", wire: "04000000210000", login: false },
  { name: "a keep-alive before the login", wire: "0600000000", login: false },
  { name: "a client info above 256 KiB", wire: "0200040001", login: false },
  { name: "a damaged client info", wire: damaged(), login: false },
  { name: "a packet for half a key", wire: `0400000010${"00".repeat(16)}`, login: true },
  { name: "a packet above 65536 bytes", wire: "0400010021", login: true },
  { name: "a preference of no byte", wire: "0700000000", login: true },
  { name: "a ping of seven bytes", wire: "120000000700000000000000", login: true },
  { name: "a mesh frame", wire: "1000000000", login: true },
])("$name ends the connection and no other", ({ wire, login }) => {
  const world = new RelayWorld();
  const [other, conn] = [world.join(b), 77];
  world.server.handleOpen(conn, remote, start);
  if (login) world.server.handleBytes(conn, Uint8Array.from(clientInfo), start);
  world.server.handleBytes(conn, Uint8Array.from(Buffer.from(wire, "hex")), start);
  if (wire.startsWith("0400000021")) world.server.handleBytes(conn, new Uint8Array(40), start);
  world.run();
  expect([...world.closed.keys()]).toEqual([conn]);
  expect(world.client(other).ready).toBe(true);
});

function damaged(): string {
  const wire = Uint8Array.from(clientInfo);
  wire[100] = (wire[100] ?? 0) ^ 1;
  return Buffer.from(wire).toString("hex");
}

test("a frame of an unknown type is passed over, whatever its length", () => {
  const world = new RelayWorld();
  const [atA, atB] = [world.join(a), world.join(b)];
  world.server.handleBytes(atA, Uint8Array.of(0x7f, 0, 0x20, 0, 0), start);
  for (let i = 0; i < 32; i++) world.server.handleBytes(atA, new Uint8Array(65_536), start);
  world.send(atA, b, bytes("still here"));
  expect(world.packets(atB)).toEqual(["still here"]);
  expect(world.server.counters.unknownFrames).toBe(1);
});

test("the counters follow who is at home", () => {
  const world = new RelayWorld();
  const [atA, atB] = [world.join(a), world.join(b)];
  expect(world.server.counters).toMatchObject({ accepts: 2, connections: 2, homeConnections: 2 });
  world.client(atA).notePreferred(false);
  world.run();
  expect(world.server.counters.homeConnections).toBe(1);
  world.leave(atB);
  expect(world.server.counters).toMatchObject({ connections: 1, homeConnections: 0 });
});

test("whatever strangers send, nothing is thrown and nobody is logged in", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 80 })), (chunks) => {
      const server = new DerpServer({ suite, random: seededRandom(3), serverKey: keyOf("server") });
      server.handleOpen(1, remote, start);
      for (const chunk of chunks) server.handleBytes(1, chunk, start);
      expect(server.counters.packetsReceived).toBe(0);
      expect(server.pollTransmit() ?? { conn: 1 }).toMatchObject({ conn: 1 });
    }),
  );
});

test("whatever a client sends after its login, the others are unharmed", () => {
  const anyFrame = fc.tuple(fc.constantFrom(4, 5, 7, 0x12, 0x13, 0x7f), fc.uint8Array({ maxLength: 80 }));
  fc.assert(
    fc.property(fc.array(anyFrame), (frames) => {
      const world = new RelayWorld();
      const [atA, atB, atC] = [world.join(a), world.join(b), world.join(c)];
      for (const [type, body] of frames) {
        world.server.handleBytes(atA, Uint8Array.of(type, 0, 0, 0, body.length, ...body), start);
      }
      world.run();
      world.take(atC);
      world.send(atB, c, bytes("unharmed"));
      expect(world.packets(atC)).toEqual(["unharmed"]);
    }),
    { numRuns: 20 },
  );
});
