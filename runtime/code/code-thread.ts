/** A thread that runs packet code over chunks where they lie, one range after the other, as it is told to. */
import { parentPort } from "node:worker_threads";
import { Workspace, CompiledModules } from "./workspace.ts";
import { runDirect } from "./direct-read.ts";
import type { DirectOutcome, DirectWork } from "./direct-read.ts";

/** It is there, */
interface ThreadReady {
  readonly kind: "ready";
}

/** and what came of a range. */
export interface ThreadAnswer {
  readonly kind: "answer";
  readonly outcome: DirectOutcome;
  /** That it took. */
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
