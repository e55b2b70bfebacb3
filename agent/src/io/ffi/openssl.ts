/**
 * The ciphers inside the node binary, called by address. Not every build exports them: distributions that link
 * a system OpenSSL have the second kind at most.
 */
import { type Absent, isAbsent, loadKoffi } from "./koffi.ts";

/** ChaCha20 and Poly1305 as OpenSSL's own AEAD uses them. All arguments but lengths are addresses. */
export interface RawChaCha {
  /** XORs with the key stream; `counter`: 32-bit block number, then the 12-byte nonce. */
  readonly chacha20: (out: number, input: number, length: number, key: number, counter: number) => void;
  /** A state serves one message: it must be initialized again after `final`. */
  readonly poly1305Init: (state: number, key: number) => void;
  readonly poly1305Update: (state: number, input: number, length: number) => void;
  readonly poly1305Final: (state: number, tag: number) => void;
  readonly stateLength: number;
}

/** The public interface (EVP) with one context. */
export interface EvpChaCha {
  /** `encrypt`: 1 or 0. Returns 1 for success. */
  readonly init: (key: number, nonce: number, encrypt: number) => number;
  readonly cipher: (out: number, input: number, length: number) => number;
  /** Ends the message; `scratch`: 32 bytes. Returns 1 for success: when opening, that the tag fits. */
  readonly final: (scratch: number) => number;
  readonly getTag: (at: number) => number;
  readonly setTag: (at: number) => number;
}

export function loadRawChaCha(): RawChaCha | Absent {
  const koffi = loadKoffi();
  if (isAbsent(koffi)) return koffi;
  try {
    const c = koffi.load(null);
    const length = c.func("size_t Poly1305_ctx_size()");
    return {
      chacha20: c.func(
        "void ChaCha20_ctr32(uint64_t out, uint64_t input, size_t length, uint64_t key, uint64_t counter)",
      ),
      poly1305Init: c.func("void Poly1305_Init(uint64_t state, uint64_t key)"),
      poly1305Update: c.func("void Poly1305_Update(uint64_t state, uint64_t input, size_t length)"),
      poly1305Final: c.func("void Poly1305_Final(uint64_t state, uint64_t tag)"),
      stateLength: Number(length()),
    };
  } catch {
    return { absent: "this node binary does not export ChaCha20_ctr32 and Poly1305" };
  }
}

/** From openssl/evp.h. */
const EVP_CTRL_AEAD_GET_TAG = 0x10;
const EVP_CTRL_AEAD_SET_TAG = 0x11;
const TAG_LENGTH = 16;

export function loadEvpChaCha(): EvpChaCha | Absent {
  const koffi = loadKoffi();
  if (isAbsent(koffi)) return koffi;
  try {
    const c = koffi.load(null);
    const cipherOf = c.func("uint64_t EVP_chacha20_poly1305()");
    const create = c.func("uint64_t EVP_CIPHER_CTX_new()");
    const init = c.func(
      "int EVP_CipherInit_ex(uint64_t context, uint64_t type, uint64_t engine, uint64_t key, uint64_t iv, int encrypt)",
    );
    const cipher = c.func("int EVP_Cipher(uint64_t context, uint64_t out, uint64_t input, uint32_t length)");
    const final = c.func("int EVP_CipherFinal_ex(uint64_t context, uint64_t out, uint64_t length)");
    const control = c.func("int EVP_CIPHER_CTX_ctrl(uint64_t context, int type, int length, uint64_t at)");
    const context: unknown = create(); // one for the life of the process
    if (init(context, cipherOf(), 0, 0, 0, 1) !== 1) return { absent: "OpenSSL has no ChaCha20-Poly1305" };
    return {
      init: (key, nonce, encrypt) => Number(init(context, 0, 0, key, nonce, encrypt)),
      cipher: (out, input, length) => Number(cipher(context, out, input, length)),
      final: (scratch) => Number(final(context, scratch, scratch + 16)),
      getTag: (at) => Number(control(context, EVP_CTRL_AEAD_GET_TAG, TAG_LENGTH, at)),
      setTag: (at) => Number(control(context, EVP_CTRL_AEAD_SET_TAG, TAG_LENGTH, at)),
    };
  } catch {
    return { absent: "this node binary does not export EVP_Cipher" };
  }
}
