/** What a relay counts, for its metrics. Each only grows, save the two that say how many there are now. */
export interface DerpCounters {
  accepts: number;
  /** Connections now. */
  connections: number;
  /** Connections now that have this relay as their home. */
  homeConnections: number;
  bytesReceived: number;
  bytesSent: number;
  packetsReceived: number;
  discoReceived: number;
  packetsSent: number;
  pings: number;
  unknownFrames: number;
  peerGoneDisconnected: number;
  peerGoneNotHere: number;
  writeTimeouts: number;
  readonly dropped: Record<DropReason, number>;
}

export type DropReason = "unknownDestination" | "queueFull" | "gone";

export function newCounters(): DerpCounters {
  return {
    accepts: 0,
    connections: 0,
    homeConnections: 0,
    bytesReceived: 0,
    bytesSent: 0,
    packetsReceived: 0,
    discoReceived: 0,
    packetsSent: 0,
    pings: 0,
    unknownFrames: 0,
    peerGoneDisconnected: 0,
    peerGoneNotHere: 0,
    writeTimeouts: 0,
    dropped: { unknownDestination: 0, queueFull: 0, gone: 0 },
  };
}
