/**
 * The same figures for CloudWatch, in its embedded metric format: one line of JSON, which the CloudWatch agent turns into
 * metrics. Few and without a dimension for each peer or region, since each combination is billed.
 * https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
 */
import type { WallTime } from "../base/time.ts";
import type { Metric } from "./metrics.ts";

const NAMESPACE = "Sallyport";

/** Gauges as they are, counters since the last line. */
export class EmbeddedMetrics {
  readonly #former = new Map<string, number>();

  /** @param node the one dimension: the instance's id, or the host's name */
  line(metrics: readonly Metric[], node: string, at: WallTime): string {
    const sum = (name: string, labels: Readonly<Record<string, string>> = {}): number =>
      (metrics.find((metric) => metric.name === name)?.samples ?? [])
        .filter((sample) => Object.entries(labels).every(([label, value]) => sample.labels[label] === value))
        .reduce((total, { value }) => total + value, 0);
    const values = {
      Healthy: [sum("sallyport_healthy"), "None"],
      PeersDirect: [sum("sallyport_peers", { path: "direct" }), "Count"],
      PeersRelayed: [
        sum("sallyport_peers", { path: "relay" }) + sum("sallyport_peers", { path: "peer-relay" }),
        "Count",
      ],
      PathChanges: [this.#grown("changes", sum("sallyport_path_changes_total")), "Count"],
      BytesDirect: [this.#grown("direct", sum("sallyport_bytes_total", { path: "direct" })), "Bytes"],
      BytesRelayed: [this.#grown("relay", sum("sallyport_bytes_total", { path: "relay" })), "Bytes"],
      Drops: [this.#grown("drops", sum("sallyport_drops_total")), "Count"],
    } as const;
    const names = Object.entries(values).map(([Name, [, Unit]]) => ({ Name, Unit }));
    return JSON.stringify({
      _aws: {
        Timestamp: at,
        CloudWatchMetrics: [{ Namespace: NAMESPACE, Dimensions: [["Node"]], Metrics: names }],
      },
      Node: node,
      ...Object.fromEntries(Object.entries(values).map(([name, [value]]) => [name, value])),
    });
  }

  /** A counter that fell began anew. */
  #grown(name: string, value: number): number {
    const former = this.#former.get(name) ?? 0;
    this.#former.set(name, value);
    return value >= former ? value - former : value;
  }
}
