/** Takes an executor process and does the first thing with a program in it, which a hostile module may not survive. */
import { hasCode } from "../../packets/errors.ts";
import { SandboxError, SandboxErrorCode } from "../errors.ts";
import { EXECUTOR_BASE_BYTES, EXECUTOR_THREAD_BYTES } from "../limits.ts";
import type { ExecutorOptions, ExecutorProcess } from "../sandbox/process/executor-process.ts";
import type { ProgramLimits } from "../program/program.ts";

/** Where processes come from: SpareExecutors, or whoever starts them otherwise. */
export interface ProcessSource {
  /** A process of the caller's own, like the source's others unless options are given. */
  take(options?: ExecutorOptions): Promise<ExecutorProcess>;
}

/** What the executor process of a lane may use: a packet's memory for each thread, and what the process itself needs. */
export function processOptions(limits: ProgramLimits, threads: number, windowBytes: number): ExecutorOptions {
  const rssBytesMax = EXECUTOR_BASE_BYTES + threads * (EXECUTOR_THREAD_BYTES + limits.memoryBytes);
  return { threads, windowBytes, rssBytesMax };
}

/**
 * A process in which `begin` succeeded, and its result. `taken` is told of each process as soon as there is one. Rejects
 * with what `begin` rejects with, and with PFS_PROGRAM_INVALID when the process does not survive it: it was stuck, or
 * ended twice.
 */
export async function startWith<P extends { close(): Promise<void> }, T>(
  take: () => Promise<P>,
  begin: (process: P) => Promise<T>,
  taken: (process: P) => void = () => undefined,
): Promise<{ readonly process: P; readonly result: T }> {
  for (let attempt = 1; ; attempt++) {
    const process = await take();
    taken(process);
    try {
      return { process, result: await begin(process) };
    } catch (error) {
      await process.close();
      const blame = blameOf(error);
      if (blame === undefined) throw error;
      if (blame === "once" && attempt === 1) continue;
      const reason = `its executor process does not survive loading it: ${(error as Error).message}`;
      throw new SandboxError(
        SandboxErrorCode.invalidProgram,
        `the program cannot be loaded: ${reason}`,
        { reason },
        { cause: error },
      );
    }
  }
}

/** Whether the program is to blame: at once for a stuck process, at the second time for one that ended. */
function blameOf(error: unknown): "at once" | "once" | undefined {
  if (hasCode(error, SandboxErrorCode.deadline)) return "at once";
  if (!hasCode(error, SandboxErrorCode.ended) || error.data["reason"] === "closed") return undefined;
  return "once";
}
