/** What a command may touch: it gets all of it from `main`, so that a test can stand in for the terminal. */
import type { IpPort } from "../base/address.ts";
import type { Calendar } from "../base/time.ts";
import type { LogLevel } from "../io/logger.ts";
import type { AcmeSettings } from "../io/acme-certificate.ts";
import type { HealthTagsMode, Listen } from "../io/config.ts";
import type { WireGuardFile } from "../io/wireguard-file.ts";
import type { ForwardingChoices } from "../io/exit-node/forwarding-choices.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Sink {
  /** A terminal, which shows colours. */
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

export interface Stdio {
  readonly stdin: AsyncIterable<Uint8Array | string>;
  readonly stdout: Sink;
  readonly stderr: Sink;
  /** Aborted by Ctrl-C or SIGTERM. */
  readonly interrupt: AbortSignal;
}

export interface CommandContext {
  readonly env: Environment;
  readonly stdio: Stdio;
  readonly roles: Roles;
  readonly calendar: Calendar;
  /** Returns early when interrupted. */
  readonly sleep: (ms: number, interrupt: AbortSignal) => Promise<void>;
  /** 0 done, 1 failed, 2 misused, 130 interrupted. */
  exitCode: number;
}

/** Starts the long-running roles. `main` brings the real ones. */
export interface Roles {
  daemon(options: DaemonSettings): Promise<RunningRole>;
  relay(options: RelaySettings): Promise<RunningRole>;
  control(options: ControlSettings): Promise<RunningRole>;
  wireguard(options: WireGuardSettings): Promise<RunningRole>;
}

export interface RunningRole {
  close(): Promise<void>;
}

export interface DaemonSettings extends Partial<ForwardingChoices> {
  readonly stateDir: string;
  readonly socket: string;
  readonly logLevel: LogLevel;
  readonly port: number;
  /** The name of a TUN device, or "memory". */
  readonly tun: string;
  readonly mtu: number | undefined;
  readonly workers: number | undefined;
  readonly loginServer: string | undefined;
  readonly authKey: string | undefined;
  readonly certPin: string | undefined;
  readonly hostname: string | undefined;
  readonly advertiseExitNode: boolean | undefined;
  readonly advertiseRoutes: readonly string[] | undefined;
  readonly forwardAccept: readonly string[] | undefined;
  readonly acceptRoutes: boolean | undefined;
  readonly exitNode: string | undefined;
  readonly exitNodeAllowLanAccess: boolean | undefined;
  readonly exitNodeDns: readonly string[] | undefined;
  readonly healthTags: HealthTagsMode;
  readonly metrics: Listen | "off";
  /** A UDP port of this machine. */
  readonly embeddedMetrics: number | "stdout" | "off";
  readonly endpoints: readonly IpPort[] | undefined;
  readonly healthCheckPort: number | undefined;
}

export interface WireGuardSettings {
  readonly file: WireGuardFile;
  readonly tun: string;
  readonly logLevel: LogLevel;
}

export interface RelaySettings {
  readonly stateDir: string;
  readonly logLevel: LogLevel;
  readonly listen: Listen;
  readonly stunPort: number;
  readonly hostname: string | undefined;
  readonly regionId: number;
  readonly regionCode: string;
  readonly regionName: string | undefined;
  /** PEM. Both or none: then it makes a self-signed certificate. */
  readonly certFile: string | undefined;
  readonly keyFile: string | undefined;
  readonly acme: AcmeSettings | undefined;
  readonly address: string | undefined;
  /** Of the instance: for one without a tunnel. */
  readonly healthTags: HealthTagsMode;
  /** The coordination server that shares the relay's TLS port. */
  readonly coordination: ControlSettings | undefined;
}

export interface ControlSettings {
  readonly stateDir: string;
  readonly socket: string;
  readonly logLevel: LogLevel;
  readonly listen: Listen;
  readonly hostname: string | undefined;
  readonly domain: string | undefined;
  /** A file with the relay map. */
  readonly derpMap: string | undefined;
  /** PEM. Both or none: then it makes a self-signed certificate. */
  readonly certFile: string | undefined;
  readonly keyFile: string | undefined;
  readonly acme: AcmeSettings | undefined;
  /** Where the first auth key is written. */
  readonly authKeyFile: string | undefined;
  /** Where the join token is written. */
  readonly joinTokenFile: string | undefined;
  readonly joinToken: { readonly parameter: string } | undefined;
  /** As of a relay, whose setting counts where both share a port. */
  readonly healthTags: HealthTagsMode;
  /** "10.1.0.0/16" or "10.1.0.0/16=tag:router". */
  readonly autoApproveRoutes?: readonly string[] | undefined;
}

/** Rows with their columns in line, two spaces apart; the last is as long as it is. */
export function inColumns(rows: readonly (readonly string[])[]): readonly string[] {
  const widthOf = (column: number): number => Math.max(...rows.map((row) => row[column]?.length ?? 0));
  return rows.map((row) =>
    row.map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widthOf(i)))).join("  "),
  );
}

export function printLines(sink: Sink, lines: readonly string[]): void {
  for (const line of lines) sink.write(`${line}\n`);
}
