/**
 * What can be wrong with a node: one word for programs (the tag `sallyport:health`, metrics, alarms), one sentence for people
 * (`status`). Whoever finds out adds its word here.
 */

/** Worst first: where several hold, the first is the one that is told in a tag. */
export const HEALTH_REASONS = [
  /** Someone has to log in or to approve this node. */
  "needs-login",
  /** `sallyport down` was said. */
  "stopped",
  /** Not in the network yet. */
  "starting",
  /** Exit traffic is dropped: the internet sees it come from another address than was promised. */
  "egress-wrong-address",
  /** Exit traffic is dropped: the instance's metadata, which tell its networks and interfaces, can not be read. */
  "metadata-missing",
  /** Exit traffic is dropped: the interface that it would leave by is not there. */
  "egress-missing",
  /** Exit traffic is dropped: the interface that the tunnel comes in by is not there. */
  "ingress-missing",
  /** Exit traffic is dropped: the kernel does not take our routes, rules or packet filter. */
  "forwarding-failed",
  /** Exit traffic is dropped by the packet filter of others; the sentence says which rule to add. */
  "forward-blocked",
  /** All traffic is blocked: the exit node that was chosen is not there, offline, or offers none. */
  "exit-node-missing",
  /** Routes or rules of ours were taken away by others and could not be put back. */
  "routes-lost",
  /** The internet sees the tunnel's port at another address than the ingress interface's. */
  "ingress-wrong-address",
  /** A server's certificate has ended and could not be renewed: clients without its pin refuse it. */
  "certificate-ended",
  /** No answer came by the way out yet, so nobody knows which address the internet sees. */
  "egress-unproven",
  /** The coordination server can not be reached; the last map is in use. */
  "control-lost",
  /** No UDP passes: every connection stays on a relay. */
  "udp-blocked",
  /** Our port should be open, and peers of two networks or more try in vain to reach it. */
  "port-closed",
  /** The home relay can not be reached. */
  "relay-lost",
  /** Anything else; the sentence says what. */
  "error",
] as const;

export type HealthReason = (typeof HEALTH_REASONS)[number];

export interface HealthProblem {
  readonly reason: HealthReason;
  /** One sentence. */
  readonly text: string;
}

/** The worst first, each reason's first sentence before its others. */
export function worstFirst(problems: readonly HealthProblem[]): readonly HealthProblem[] {
  const rank = (problem: HealthProblem): number => HEALTH_REASONS.indexOf(problem.reason);
  return problems.toSorted((a, b) => rank(a) - rank(b));
}
