/** The user data of a machine as text, with what is packed in it, as cloud-init would unpack it: base64 and gzip. */
import { gunzipSync } from "node:zlib";

/** Shorter ones are words. */
const BASE64 = /[A-Za-z0-9+/]{16,}={0,2}/g;
/** A template's user data, a part of it in MIME, a file in that, compressed. */
const DEPTH = 4;

export function userData(attributes: Readonly<Record<string, unknown>>): string {
  return [attributes["user_data"], attributes["user_data_base64"]]
    .filter((one) => typeof one === "string")
    .map((one) => withUnpacked(one, DEPTH))
    .join("\n");
}

function withUnpacked(text: string, depth: number): string {
  if (depth === 0) return text;
  const packed = /^[A-Za-z0-9+/\s]+={0,2}\s*$/.test(text) ? [text] : (text.match(BASE64) ?? []);
  const unpacked = packed.map((one) => withUnpacked(unpack(Buffer.from(one, "base64")), depth - 1));
  return [text, ...unpacked].join("\n");
}

function unpack(bytes: Buffer): string {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes.toString("utf8");
  try {
    return gunzipSync(bytes).toString("utf8");
  } catch {
    return "";
  }
}
