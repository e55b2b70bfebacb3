/**
 * The kernel's check of senders (rp_filter) on the way back of our own packets.
 *
 * Where it is strict, a packet must come in by the device that its sender would be reached by, which while an exit node
 * is used is the tunnel. Our own packets carry a mark that leads beside it; `src_valid_mark` makes the check heed it.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";

const CONF = "/proc/sys/net/ipv4/conf";
const HEEDS_MARK = `${CONF}/all/src_valid_mark`;
const STRICT = "1";

/** Makes a strict check heed marks. Returns what takes that back; undefined where nothing had to be done or could be. */
export function heedMarks(): (() => void) | undefined {
  try {
    const strict = readdirSync(CONF).some((name) => valueOf(`${CONF}/${name}/rp_filter`) === STRICT);
    if (!strict || valueOf(HEEDS_MARK) === "1") return undefined;
    writeFileSync(HEEDS_MARK, "1");
    return () => writeFileSync(HEEDS_MARK, "0");
  } catch {
    // Without /proc/sys, or where it is read-only: then the check is the container's keeper's.
    return undefined;
  }
}

function valueOf(path: string): string {
  return readFileSync(path, "latin1").trim();
}
