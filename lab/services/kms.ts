/** KMS, as it is implied: a service decrypts for its caller, who must be allowed to use the key. */
import type { Context } from "./iam.ts";
import type { Call } from "./service.ts";

/** @param keyArn a key of one's own; the account's own key for the service may be used by everybody who may use the service */
export function decrypt(call: Call, keyArn: string | undefined, context: Context): void {
  if (keyArn === undefined) return;
  call.authorize("kms:Decrypt", [{ arn: keyArn, context }]);
}
