import fc from "fast-check";
import { fromHex, toHex } from "../../../../agent/src/base/bytes.ts";
import { MachinePrivate, MachinePublic } from "../../../../agent/src/base/keys.ts";
import type { Random } from "../../../../agent/src/base/random.ts";
import {
  encodeHandshakeError,
  Initiator,
  NoiseState,
  respond,
} from "../../../../agent/src/core/control/noise.ts";
import { portableSuite } from "../../../../agent/src/crypto/portable.ts";
import { seededRandom } from "../../../sim/random.ts";
import { hex, vectors } from "../../../vectors/load.ts";

interface Step {
  readonly step: string;
  readonly h: string;
  readonly ck: string;
  readonly dh?: string;
  readonly k?: string;
  readonly enc_s?: string;
  readonly tag?: string;
}
interface KeyPair {
  readonly private: string;
  readonly public: string;
}
interface Vectors {
  readonly protocol_version: number;
  readonly client_ephemeral: KeyPair;
  readonly server_ephemeral: KeyPair;
  readonly control_key: KeyPair;
  readonly machine_key: KeyPair;
  readonly initiation: string;
  readonly initiation_steps: readonly Step[];
  readonly response: string;
  readonly response_steps: readonly Step[];
  readonly handshake_hash: string;
  readonly key_client_to_server: string;
  readonly key_server_to_client: string;
  readonly x_tailscale_handshake_header: string;
  readonly error_frame: { readonly bytes: string; readonly client_error: string };
}

const v = vectors<Vectors>("controlbase.json");
const suite = portableSuite;
const machineKey = new MachinePrivate(hex(v.machine_key.private));
const controlKey = new MachinePrivate(hex(v.control_key.private));
const controlPublic = MachinePublic.parse(v.control_key.public);
const fixed = (text: string): Random => ({ fill: (out) => out.set(hex(text)) });

const initiator = (): Initiator =>
  new Initiator(suite, fixed(v.client_ephemeral.private), machineKey, controlPublic, v.protocol_version);

test("every intermediate of the published handshake comes out", () => {
  const [start, prologue, staticKey, e, es, ss] = v.initiation_steps;
  const state = new NoiseState(suite, v.protocol_version, controlPublic.bytes);
  const expectStep = (step: Step | undefined): void => {
    expect([toHex(state.h), toHex(state.ck)]).toEqual([step?.h, step?.ck]);
  };
  expect(start?.ck).toBe(toHex(state.ck));
  expect(prologue?.ck).toBe(toHex(state.ck));
  expectStep(staticKey);

  const agree = (a: string, b: string): Uint8Array | undefined => suite.x25519(hex(a), hex(b));
  const publicHex = (key: KeyPair): string => key.public.replace("mkey:", "");
  state.mixHash(hex(v.client_ephemeral.public));
  expectStep(e);
  let dh = agree(v.client_ephemeral.private, publicHex(v.control_key));
  expect(toHex(dh ?? new Uint8Array())).toBe(es?.dh);
  let key = state.mixDh(dh);
  expect(toHex(key)).toBe(es?.k);
  expect(toHex(state.seal(key, hex(publicHex(v.machine_key))))).toBe(es?.enc_s);
  expectStep(es);
  dh = agree(v.machine_key.private, publicHex(v.control_key));
  expect(toHex(dh ?? new Uint8Array())).toBe(ss?.dh);
  key = state.mixDh(dh);
  expect(toHex(key)).toBe(ss?.k);
  expect(toHex(state.seal(key, new Uint8Array()))).toBe(ss?.tag);
  expectStep(ss);

  const [re, ee, se] = v.response_steps;
  state.mixHash(hex(v.server_ephemeral.public));
  expectStep(re);
  dh = agree(v.server_ephemeral.private, v.client_ephemeral.public);
  expect(toHex(dh ?? new Uint8Array())).toBe(ee?.dh);
  state.mixDh(dh);
  expectStep(ee);
  dh = agree(v.server_ephemeral.private, publicHex(v.machine_key));
  expect(toHex(dh ?? new Uint8Array())).toBe(se?.dh);
  key = state.mixDh(dh);
  expect(toHex(key)).toBe(se?.k);
  expect(toHex(state.seal(key, new Uint8Array()))).toBe(se?.tag);
  expectStep(se);
  expect(state.split().map(toHex)).toEqual([v.key_client_to_server, v.key_server_to_client]);
});

test("the client's side writes the published initiation and takes the published response", () => {
  const client = initiator();
  expect(toHex(client.message)).toBe(v.initiation);
  expect(Buffer.from(client.message).toString("base64")).toBe(v.x_tailscale_handshake_header);
  expect(client.finish(hex(v.response))).toEqual({
    send: hex(v.key_client_to_server),
    receive: hex(v.key_server_to_client),
    handshakeHash: hex(v.handshake_hash),
  });
});

test("the server's side reads the published initiation and writes the published response", () => {
  const accepted = respond(suite, fixed(v.server_ephemeral.private), controlKey, hex(v.initiation));
  if (accepted.kind !== "accepted") throw new Error(accepted.kind);
  expect(toHex(accepted.response)).toBe(v.response);
  expect(accepted.machine.text).toBe(v.machine_key.public);
  expect(accepted.version).toBe(142);
  expect(toHex(accepted.keys.receive)).toBe(v.key_client_to_server);
  expect(toHex(accepted.keys.send)).toBe(v.key_server_to_client);
  expect(toHex(accepted.keys.handshakeHash)).toBe(v.handshake_hash);
});

test("an error frame carries the server's words", () => {
  const text = "unsupported protocol version";
  expect(toHex(encodeHandshakeError(text))).toBe(v.error_frame.bytes);
  expect(initiator().finish(hex(v.error_frame.bytes))).toEqual({ kind: "server-error", text });
  expect(v.error_frame.client_error).toContain(text);
});

test("any two sides agree, whatever the keys and version", () => {
  fc.assert(
    fc.property(fc.integer(), fc.integer({ min: 0, max: 0xffff }), (seed, version) => {
      const random = seededRandom(seed);
      const secret = (): Uint8Array => {
        const out = new Uint8Array(32);
        random.fill(out);
        return out;
      };
      const server = new MachinePrivate(secret());
      const serverPublic = MachinePublic.fromBytes(server.expose((s) => suite.x25519Public(s)));
      const client = new Initiator(suite, random, new MachinePrivate(secret()), serverPublic, version);
      const accepted = respond(suite, random, server, client.message);
      if (accepted.kind !== "accepted") throw new Error(accepted.kind);
      expect(accepted.version).toBe(version);
      expect(client.finish(accepted.response)).toEqual({
        send: accepted.keys.receive,
        receive: accepted.keys.send,
        handshakeHash: accepted.keys.handshakeHash,
      });
    }),
    { numRuns: 5 },
  );
});

test("a message with any bit changed is refused, and the right one is still taken after it", () => {
  const client = initiator();
  for (let at = 0; at < 101; at += 3) {
    const damaged = hex(v.initiation);
    damaged[at] = (damaged[at] ?? 0) ^ 1;
    expect(respond(suite, fixed(v.server_ephemeral.private), controlKey, damaged).kind).not.toBe("accepted");
  }
  for (let at = 0; at < 51; at += 3) {
    const damaged = hex(v.response);
    damaged[at] = (damaged[at] ?? 0) ^ 1;
    expect(client.finish(damaged)).toHaveProperty("kind");
  }
  expect(client.finish(hex(v.response))).not.toHaveProperty("kind");
});

test("any bytes are refused without an exception", () => {
  const client = initiator();
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 110 }), (bytes) => {
      expect(respond(suite, seededRandom(1), controlKey, bytes).kind).not.toBe("accepted");
      expect(client.finish(bytes)).toHaveProperty("kind");
    }),
  );
});

test("an ephemeral key of small order is refused", () => {
  const initiation = hex(v.initiation);
  initiation.fill(0, 5, 37);
  expect(respond(suite, seededRandom(1), controlKey, initiation).kind).toBe("not-authentic");
  const response = fromHex(v.response);
  response.fill(0, 3, 35);
  expect(initiator().finish(response)).toEqual({ kind: "not-authentic" });
});
