import fc from "fast-check";
import { concat, fromUtf8, toHex } from "../../../../agent/src/base/bytes.ts";
import { MachinePrivate, MachinePublic } from "../../../../agent/src/base/keys.ts";
import { Initiator, NoiseState } from "../../../../agent/src/core/control/noise.ts";
import {
  EarlyPayloadReader,
  MAX_PLAINTEXT,
  RecordOpener,
  RecordSealer,
} from "../../../../agent/src/core/control/record.ts";
import { portableSuite } from "../../../../agent/src/crypto/portable.ts";
import { hex, vectors } from "../../../vectors/load.ts";

interface BaseVectors {
  readonly key_client_to_server: string;
  readonly key_server_to_client: string;
  readonly records: readonly {
    readonly name: string;
    readonly plaintext: string;
    readonly frames: readonly {
      readonly frame: string;
      readonly len: number;
      readonly nonce: string;
      readonly plaintext_len: number;
    }[];
  }[];
  readonly early_payload: { readonly bytes: string; readonly json: unknown };
}
interface Record {
  readonly record: string;
  readonly plaintext: string;
}
interface H2Frame {
  readonly type: string;
  readonly flags: number;
  readonly stream: number;
  readonly len: number;
}
interface SessionVectors {
  readonly machine_private: string;
  readonly client_ephemeral_private: string;
  readonly control_public: string;
  readonly http_request: string;
  readonly http_response: string;
  readonly noise_response: string;
  readonly handshake_hash: string;
  readonly key_client_to_server: string;
  readonly key_server_to_client: string;
  readonly client_records: readonly Record[];
  readonly server_records: readonly Record[];
  readonly client_h2_after_preface: readonly H2Frame[];
  readonly server_early_payload_len: number;
  readonly server_h2_after_early_payload: readonly H2Frame[];
}

const base = vectors<BaseVectors>("controlbase.json");
const headscale = vectors<Pick<BaseVectors, "early_payload">>("headscale-map.json");
const session = vectors<SessionVectors>("control-session.json");
const suite = portableSuite;

function openAll(key: string, records: readonly Uint8Array[]): readonly string[] {
  const opener = new RecordOpener(suite, hex(key));
  const plaintexts: string[] = [];
  for (const record of records) {
    opener.push(record);
    for (let next = opener.poll(); next !== undefined; next = opener.poll()) {
      if (typeof next === "string") throw new Error(next);
      plaintexts.push(toHex(next));
    }
  }
  return plaintexts;
}

describe.each(["client->server", "server->client"])("published records %s", (direction) => {
  const key = direction === "client->server" ? base.key_client_to_server : base.key_server_to_client;
  const records = base.records.filter(({ name }) => name.startsWith(direction));

  test("are sealed to the same bytes", () => {
    const sealer = new RecordSealer(suite, hex(key));
    expect(records).not.toHaveLength(0);
    for (const { plaintext, frames } of records) {
      expect(toHex(sealer.seal(hex(plaintext)))).toBe(frames.map(({ frame }) => frame).join(""));
    }
  });

  test("open again", () => {
    const frames = records.flatMap((record) => record.frames);
    const opened = openAll(
      key,
      frames.map(({ frame }) => hex(frame)),
    );
    expect(opened.join("")).toBe(records.map(({ plaintext }) => plaintext).join(""));
    expect(opened.map((plaintext) => plaintext.length / 2)).toEqual(frames.map((f) => f.plaintext_len));
    expect(frames.map(({ frame }) => Number.parseInt(frame.slice(2, 6), 16))).toEqual(
      frames.map((f) => f.len),
    );
    expect(frames.map(({ nonce }) => Number.parseInt(nonce, 16))).toEqual(frames.map((_, i) => i));
  });
});

test("a live session with headscale: the handshake gives its keys", () => {
  const client = new Initiator(
    suite,
    { fill: (out) => out.set(hex(session.client_ephemeral_private)) },
    new MachinePrivate(hex(session.machine_private)),
    MachinePublic.parse(session.control_public),
    142,
  );
  expect(session.http_request).toContain(Buffer.from(client.message).toString("base64"));
  expect(session.http_response).toContain("Upgrade: tailscale-control-protocol");
  expect(client.finish(hex(session.noise_response))).toMatchObject({
    send: hex(session.key_client_to_server),
    receive: hex(session.key_server_to_client),
  });
});

test("a live session with headscale: the hash it notes is the one the response's tag was sealed over", () => {
  const control = MachinePublic.parse(session.control_public).bytes;
  const [ephemeral, machine] = [hex(session.client_ephemeral_private), hex(session.machine_private)];
  const state = new NoiseState(suite, 142, control);
  state.mixHash(suite.x25519Public(ephemeral));
  state.seal(state.mixDh(suite.x25519(ephemeral, control)), suite.x25519Public(machine));
  state.seal(state.mixDh(suite.x25519(machine, control)), new Uint8Array());
  state.mixHash(hex(session.noise_response).subarray(3, 35));
  expect(toHex(state.h)).toBe(session.handshake_hash);
});

test("a live session with headscale: every record opens, however the bytes are cut", () => {
  for (const [key, records] of [
    [session.key_client_to_server, session.client_records],
    [session.key_server_to_client, session.server_records],
  ] as const) {
    const expected = records.map(({ plaintext }) => plaintext);
    expect(
      openAll(
        key,
        records.map(({ record }) => hex(record)),
      ),
    ).toEqual(expected);
    const bytes = concat(...records.map(({ record }) => hex(record)));
    const cut = Array.from({ length: Math.ceil(bytes.length / 7) }, (_, i) =>
      bytes.subarray(7 * i, 7 * i + 7),
    );
    expect(openAll(key, cut)).toEqual(expected);
  }
});

test("a live session with headscale: HTTP/2 begins after the preface and after the early payload", () => {
  const client = hex(session.client_records.map(({ plaintext }) => plaintext).join(""));
  expect(fromUtf8(client.subarray(0, 24))).toBe("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  expect(h2Frames(client.subarray(24))).toEqual(session.client_h2_after_preface);

  const reader = new EarlyPayloadReader();
  const rest = session.server_records.map(({ plaintext }) => {
    const bytes = reader.push(hex(plaintext));
    if (bytes === "too-long") throw new Error(bytes);
    return bytes;
  });
  expect(9 + (reader.payload?.length ?? 0)).toBe(session.server_early_payload_len);
  expect(h2Frames(concat(...rest))).toEqual(session.server_h2_after_early_payload);
});

test.each([
  ["Tailscale's", base.early_payload],
  ["headscale's", headscale.early_payload],
])("%s early payload is found however it is cut, and what follows it stays", (_, early) => {
  const bytes = concat(hex(early.bytes), Uint8Array.of(1, 2, 3));
  for (let size = 1; size <= bytes.length; size++) {
    const reader = new EarlyPayloadReader();
    const rest: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += size) {
      const part = reader.push(bytes.subarray(at, at + size));
      if (part !== "too-long") rest.push(part);
    }
    expect(JSON.parse(fromUtf8(reader.payload ?? new Uint8Array()))).toEqual(early.json);
    expect(concat(...rest)).toEqual(Uint8Array.of(1, 2, 3));
  }
});

test("without an early payload every byte goes to HTTP/2", () => {
  const settings = hex("00001e040000000000000500100000");
  for (let cut = 1; cut < settings.length; cut++) {
    const reader = new EarlyPayloadReader();
    const parts = [reader.push(settings.subarray(0, cut)), reader.push(settings.subarray(cut))];
    expect(concat(...parts.map((part) => (part === "too-long" ? new Uint8Array() : part)))).toEqual(settings);
    expect(reader.payload).toBeUndefined();
  }
});

test("an early payload beyond the limit is refused", () => {
  expect(new EarlyPayloadReader().push(hex("ffffff5453ffffffff"))).toBe("too-long");
});

test("what is sealed opens, for any lengths and cuts", () => {
  const key = new Uint8Array(32).fill(7);
  const lengths = fc.array(fc.integer({ min: 0, max: 3 * MAX_PLAINTEXT }), { maxLength: 4 });
  fc.assert(
    fc.property(lengths, fc.integer({ min: 1, max: 9000 }), (sizes, cut) => {
      const sealer = new RecordSealer(suite, key);
      const sent = sizes.map((size, i) => new Uint8Array(size).fill(i + 1));
      const bytes = concat(...sent.map((part) => sealer.seal(part)));
      const pieces: Uint8Array[] = [];
      for (let at = 0; at < bytes.length; at += cut) pieces.push(bytes.subarray(at, at + cut));
      expect(openAll(toHex(key), pieces).join("")).toBe(toHex(concat(...sent)));
    }),
    { numRuns: 20 },
  );
});

test("a damaged record ends the stream: nothing after it opens", () => {
  const sealer = new RecordSealer(suite, new Uint8Array(32));
  const [first, second] = [sealer.seal(Uint8Array.of(1)), sealer.seal(Uint8Array.of(2))];
  first[5] = (first[5] ?? 0) ^ 1;
  const opener = new RecordOpener(suite, new Uint8Array(32));
  opener.push(concat(first, second));
  expect([opener.poll(), opener.poll()]).toEqual(["not-authentic", "not-authentic"]);
});

test.each([
  ["03000161", "not-a-record"],
  ["04000161", "not-authentic"],
  ["04ffff", "too-long"],
])("%s is %s", (bytes, failure) => {
  const opener = new RecordOpener(suite, new Uint8Array(32));
  opener.push(hex(bytes));
  expect(opener.poll()).toBe(failure);
});

test("any bytes don't throw and never yield plaintext", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 60 })), (parts) => {
      const opener = new RecordOpener(suite, new Uint8Array(32));
      for (const part of parts) {
        opener.push(part);
        expect(opener.poll()).not.toBeInstanceOf(Uint8Array);
      }
    }),
  );
});

function h2Frames(bytes: Uint8Array): readonly H2Frame[] {
  const types = [
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
  ];
  const frames: H2Frame[] = [];
  const view = Buffer.from(bytes);
  for (let at = 0; at < view.length;) {
    const len = view.readUIntBE(at, 3);
    const type = types[view.readUInt8(at + 3)] ?? "?";
    frames.push({ type, flags: view.readUInt8(at + 4), stream: view.readUInt32BE(at + 5), len });
    at += 9 + len;
  }
  return frames;
}
