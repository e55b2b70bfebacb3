import { toHex } from "../../../../agent/src/base/bytes.ts";
import { NodePrivate } from "../../../../agent/src/base/keys.ts";
import type { Random } from "../../../../agent/src/base/random.ts";
import { instant } from "../../../../agent/src/base/time.ts";
import { MacWriter } from "../../../../agent/src/core/wireguard/cookie.ts";
import {
  decodeMessage,
  type Initiation,
  type Response,
} from "../../../../agent/src/core/wireguard/messages.ts";
import {
  type Identity,
  initiate,
  readInitiation,
  readResponse,
  readTimestamp,
  respond,
  SymmetricState,
} from "../../../../agent/src/core/wireguard/noise.ts";
import { portableSuite as suite } from "../../../../agent/src/crypto/portable.ts";
import { hex } from "../../../vectors/load.ts";
import { type HandshakeVector, handshakeVectors, published, type StepVector } from "./vector.ts";

const initiatorStatic = hex(published.static_initiator.public);
const responderStatic = hex(published.static_responder.public);
const initiator = identity(published.static_initiator);
const responder = identity(published.static_responder);
const timestamp = hex(published.timestamp.tai64n);
const secretOf = (pair: { readonly private: string }): Uint8Array => hex(pair.private);
const shared = (secret: Uint8Array, peer: Uint8Array): Uint8Array => must(suite.x25519(secret, peer));
const staticShared = shared(secretOf(published.static_initiator), responderStatic);

describe.each(handshakeVectors)("$name", (v) => {
  test("every step of the initiation has the published state", () => {
    const [start, bound, ephemeral, withStatic, withTimestamp] = v.initiation_steps;
    let state: SymmetricState = SymmetricState.start(suite);
    expectStep(state, start);
    state = SymmetricState.initial(suite, responderStatic);
    expectStep(state, bound);
    state = state.mixEphemeral(hex(ephemeral?.e ?? ""));
    expectStep(state, ephemeral);
    state = expectSealed(
      state,
      shared(secretOf(published.ephemeral_initiator), responderStatic),
      initiatorStatic,
      withStatic,
    );
    state = expectSealed(state, staticShared, timestamp, withTimestamp);
  });

  test("every step of the response has the published state", () => {
    const [ephemeral, ee, se, psk, empty] = v.response_steps;
    const [, , , , last] = v.initiation_steps;
    let state = new SymmetricState(suite, hex(last?.ck ?? ""), hex(last?.h ?? ""));
    state = state.mixEphemeral(hex(ephemeral?.e ?? ""));
    expectStep(state, ephemeral);
    const secret = secretOf(published.ephemeral_responder);
    for (const [step, peer] of [
      [ee, hex(published.ephemeral_initiator.public)] as const,
      [se, initiatorStatic] as const,
    ]) {
      expect(toHex(shared(secret, peer))).toBe(step?.dh);
      state = state.mixSecret(shared(secret, peer));
      expectStep(state, step);
    }
    const keyed = state.mixPresharedKey(hex(v.psk));
    expectStep(keyed, psk);
    expect(toHex(keyed.key)).toBe(psk?.k);
    const [sealed, final] = keyed.seal(new Uint8Array(0));
    expect(toHex(sealed)).toBe(empty?.empty);
    expectStep(final, empty);
    expect(final.split().map(toHex)).toEqual([v.key_initiator_to_responder, v.key_responder_to_initiator]);
  });

  test("the initiator writes the published initiation, and reads the published response", () => {
    const made = initiation(v);
    new MacWriter(responderStatic).write(made.message, instant(0));
    expect(toHex(made.message)).toBe(v.initiation);

    const keys = must(readResponse(initiator, made.pending, response(v.response), hex(v.psk)));
    expect(toHex(keys.send)).toBe(v.key_initiator_to_responder);
    expect(toHex(keys.receive)).toBe(v.key_responder_to_initiator);
  });

  test("the responder reads the published initiation, and writes the published response", () => {
    const message = initiationOf(v.initiation);
    const read = must(readInitiation(responder, message));
    expect(read.initiatorStatic).toEqual(initiatorStatic);
    const opened = must(readTimestamp(read, message, staticShared));
    expect(opened.timestamp).toEqual(timestamp);

    const options = { sender: v.responder_index, receiver: v.initiator_index, presharedKey: hex(v.psk) };
    const made = must(respond(suite, opened.read, options, always(published.ephemeral_responder.private)));
    new MacWriter(initiatorStatic).write(made.message, instant(0));
    expect(toHex(made.message)).toBe(v.response);
    expect(toHex(made.keys.receive)).toBe(v.key_initiator_to_responder);
    expect(toHex(made.keys.send)).toBe(v.key_responder_to_initiator);
  });

  test("a response under another preshared key is refused", () => {
    expect(
      readResponse(initiator, initiation(v).pending, response(v.response), new Uint8Array(32).fill(9)),
    ).toBeUndefined();
  });
});

test("a key of small order leads nowhere, in either role", () => {
  const [v] = handshakeVectors;
  const zero = new Uint8Array(32);
  const message = { ...initiationOf(must(v).initiation), ephemeral: zero };
  expect(readInitiation(responder, message)).toBeUndefined();
  expect(
    readResponse(
      initiator,
      initiation(must(v)).pending,
      { ...response(must(v).response), ephemeral: zero },
      zero,
    ),
  ).toBeUndefined();
  const options = { sender: 1, peerStatic: zero, staticShared: zero, timestamp };
  expect(initiate(initiator, options, always("11".repeat(32)))).toBeUndefined();
});

function expectStep(state: SymmetricState, want: StepVector | undefined): void {
  expect({ ck: toHex(state.chainingKey), h: toHex(state.hash) }).toEqual({ ck: want?.ck, h: want?.h });
}

/** Checks one `(ck, k) = KDF2(ck, dh)`, the field sealed with it, and the way back. */
function expectSealed(
  state: SymmetricState,
  dh: Uint8Array,
  plaintext: Uint8Array,
  want: StepVector | undefined,
): SymmetricState {
  expect(toHex(dh)).toBe(want?.dh);
  const keyed = state.mixKey(dh);
  expect(toHex(keyed.key)).toBe(want?.k);
  const [sealed, next] = keyed.seal(plaintext);
  expect(toHex(sealed)).toBe(want?.static ?? want?.timestamp);
  expectStep(next, want);
  expect(keyed.open(sealed)).toEqual([plaintext, next]);
  return next;
}

function initiation(v: HandshakeVector): NonNullable<ReturnType<typeof initiate>> {
  const options = { sender: v.initiator_index, peerStatic: responderStatic, staticShared, timestamp };
  return must(initiate(initiator, options, always(published.ephemeral_initiator.private)));
}

function initiationOf(text: string): Initiation {
  const message = decodeMessage(hex(text));
  if (typeof message === "string" || message.kind !== "initiation") throw new Error("not an initiation");
  return message;
}

function response(text: string): Response {
  const message = decodeMessage(hex(text));
  if (typeof message === "string" || message.kind !== "response") throw new Error("not a response");
  return message;
}

function identity(pair: { readonly private: string; readonly public: string }): Identity {
  return { suite, privateKey: new NodePrivate(hex(pair.private)), publicKey: hex(pair.public) };
}

function always(text: string): Random {
  return { fill: (out) => out.set(hex(text)) };
}

function must<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("expected a value");
  return value;
}
