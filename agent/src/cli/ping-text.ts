/** The lines of `ping`. */
import type { PingReply, Pong, PongVia } from "../health/local-backend.ts";
import { durationText } from "./duration.ts";

/** What goes to standard output for one reply; undefined for one that is an error. */
export function replyLine(reply: PingReply): string | undefined {
  switch (reply.kind) {
    case "pong":
      return pongLine(reply);
    case "timeout":
      return `ping "${reply.ip}" timed out`;
    case "local":
      return `${reply.ip} is local Sallyport IP`;
    case "not-running":
      return reply.text;
    case "no-match":
      return undefined;
  }
}

function pongLine({ name, ip, via, latencyMs }: Pong): string {
  const port = via.kind === "tsmp" && via.peerApiPort !== 0 ? `, ${via.peerApiPort}` : "";
  return `pong from ${name} (${ip}${port}) via ${viaText(via)} in ${durationText(Math.round(latencyMs))}`;
}

function viaText(via: PongVia): string {
  switch (via.kind) {
    case "derp":
      return `DERP(${via.code})`;
    case "direct":
      return via.endpoint;
    case "peer-relay":
      return `peer-relay(${via.endpoint}:vni:${via.vni})`;
    case "tsmp":
      return "TSMP";
    case "icmp":
      return "ICMP";
  }
}
