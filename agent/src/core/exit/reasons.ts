/** Why exit traffic does not flow as it should: a word for programs, a sentence for people (health/reasons.ts has them all). */
export type ExitReasonCode =
  | "metadata-missing"
  | "egress-missing"
  | "ingress-missing"
  | "routes-lost"
  | "forwarding-failed"
  | "forward-blocked"
  | "egress-unproven"
  | "egress-wrong-address"
  | "ingress-wrong-address";

export interface ExitReason {
  readonly code: ExitReasonCode;
  /** One sentence that says what to do. */
  readonly text: string;
  /** Exit traffic could leave by the wrong address, so none leaves. */
  readonly closesExit: boolean;
}
