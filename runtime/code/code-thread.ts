/** A thread that runs packet code over chunks where they lie, one range after the other, as it is told to. */
import { parentPort } from "node:worker_threads";
import { runDirect } from "./direct-read.ts";
import type { DirectOutcome, DirectWork } from "./direct-read.ts";
import { CompiledModules, Workspace } from "./workspace.ts";

/** Said once: it takes ranges from now on. */
interface ThreadReady {
  readonly kind: "ready";
}

/** What came of a range, and the CPU time that it took. */
export interface ThreadAnswer {
  readonly kind: "answer";
  readonly outcome: DirectOutcome;
  readonly cpuMs: number;
}

export type ThreadMessage = ThreadReady | ThreadAnswer;

const workspace = new Workspace(new CompiledModules());

parentPort!.on("message", (work: DirectWork) => {
  const before = process.threadCpuUsage();
  const steps = runDirect(work, workspace);
  let step = steps.next();
  while (step.done !== true) step = steps.next();
  const { user, system } = process.threadCpuUsage(before);
  say({ kind: "answer", outcome: step.value, cpuMs: (user + system) / 1000 });
});

say({ kind: "ready" });

function say(message: ThreadMessage): void {
  parentPort!.postMessage(message);
}
