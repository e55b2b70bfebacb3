/** /etc/sallyport/cell.json: what the node of a self-healing cell takes over, written by its user data. */
import * as z from "zod";
import { OperationError, UsageError } from "../../base/errors.ts";
import { readStateFile } from "../state-store.ts";

export const DEFAULT_CELL_PATH = "/etc/sallyport/cell.json";

const cellSchema = z.strictObject({
  autoScalingGroup: z.string().min(1),
  launchHook: z.string().min(1),
  terminateHook: z.string().min(1),
  ingressInterfaceId: z.string().startsWith("eni-").optional(),
  identityVolumeId: z.string().startsWith("vol-").optional(),
});

export type Cell = z.infer<typeof cellSchema>;

/** @throws OperationError, UsageError */
export async function readCell(path: string): Promise<Cell> {
  const text = await readStateFile(path);
  if (text === undefined) {
    throw new OperationError("cell-missing", `${path} is not there: only a self-healing node has one`);
  }
  try {
    return cellSchema.parse(JSON.parse(text));
  } catch (error) {
    const place =
      error instanceof z.ZodError ? error.issues.map(({ path: at }) => at.join(".")).join(", ") : "its form";
    throw new UsageError(
      "cell-file",
      `${path} can not be used (${place}): deploy the node again, or correct the file`,
    );
  }
}
