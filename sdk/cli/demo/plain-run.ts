/** What nodes are compared with: the same program in one thread of this process, without PacketFS. */
import { on } from "node:events";
import { Worker } from "node:worker_threads";
import { builtUrl } from "../../../runtime/built.ts";
import type { PlainProgress, PlainRun } from "./plain-thread.ts";

export interface PlainRunOptions {
  readonly signal?: AbortSignal | undefined;
  /** Told which share of the records is done. */
  readonly onShare?: (share: number) => void;
}

/** What the program's `map` gives of all records, one behind the other. Rejects with the program's error, and the signal's. */
export async function runPlainly(
  run: PlainRun,
  { signal, onShare }: PlainRunOptions = {},
): Promise<Uint8Array> {
  const thread = new Worker(builtUrl(new URL("./plain-thread.ts", import.meta.url)), { workerData: run });
  try {
    // Some of them come at once: who waits for one, and then for the next, misses those.
    for await (const [message] of on(thread, "message", { signal, close: ["exit"] })) {
      const { done, output } = message as PlainProgress;
      if (output !== undefined) return output;
      onShare?.(done / run.records.length);
    }
    throw new Error("the thread ended before its program");
  } finally {
    await thread.terminate();
  }
}
