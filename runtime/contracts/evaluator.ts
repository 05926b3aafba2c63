/** Derived files: streams that say by which program their bytes are computed. */
import type { Ref } from "../../packets/digest.ts";

export interface Evaluator {
  /**
   * Computes what the derived stream `root` yields and resolves with the root of a plain stream of these bytes, whose chunks
   * the reader's source has then. The same for every call. Rejects as the program's job does, or with the signal's reason.
   */
  evaluate(root: Ref, signal?: AbortSignal): Promise<Ref>;
}
