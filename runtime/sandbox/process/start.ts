/** Starts executor processes until they answer, behind the strongest walls that have worked on this machine. */
import type { ChildProcess } from "node:child_process";
import type { Socket } from "node:net";
import { SandboxError, SandboxErrorCode } from "../../errors.ts";
import { EXECUTOR_START_MS, EXECUTOR_STDERR_BYTES } from "../../limits.ts";
import { PIPE_DESCRIPTOR } from "./descriptors.ts";
import { launch, possibleWalls } from "./launch.ts";
import type { LaunchOptions, Wall } from "./launch.ts";
import { MessageKind, MessageReader } from "./protocol.ts";

export interface StartedProcess {
  readonly child: ChildProcess;
  readonly walls: readonly string[];
}

/** Those that may still work; the first of them did, once a process has started. */
let candidates: readonly Wall[] | undefined;

/** Rejects with PFS_EXECUTOR_START_FAILED {reason}. */
export async function startProcess(options: LaunchOptions): Promise<StartedProcess> {
  candidates ??= possibleWalls();
  let reason = "";
  for (const wall of candidates) {
    const child = launch(options, wall);
    const failure = await untilReady(child);
    if (failure === undefined) {
      candidates = candidates.slice(candidates.indexOf(wall));
      return { child, walls: wall.names };
    }
    reason = failure;
  }
  const message = `an executor process did not start: ${reason}`;
  throw new SandboxError(SandboxErrorCode.startFailed, message, { reason });
}

/** Resolves with why it did not start, or with undefined when it did. */
function untilReady(child: ChildProcess): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const pipe = child.stdio[PIPE_DESCRIPTOR] as Socket;
  let said = "";
  const hear = (text: Buffer): void => {
    said = (said + text.toString("latin1")).slice(-EXECUTOR_STDERR_BYTES);
  };
  const settle = (failure: string | undefined): void => {
    clearTimeout(timer);
    child.removeAllListeners();
    child.stderr?.removeListener("data", hear);
    pipe?.removeAllListeners("data");
    if (failure !== undefined) {
      child.on("error", () => undefined);
      pipe?.on("error", () => undefined).destroy();
      child.kill("SIGKILL");
    }
    resolve(failure);
  };
  const timer = setTimeout(() => settle(`it took longer than ${EXECUTOR_START_MS} ms`), EXECUTOR_START_MS);
  const reader = new MessageReader(
    () => 0,
    ({ kind }) => settle(kind === MessageKind.ready ? undefined : "it is not an executor"),
  );
  child.on("error", (error) => settle(error.message));
  child.on("close", (code) => settle(said.trim() === "" ? `it ended with code ${code}` : said.trim()));
  child.stderr?.on("data", hear);
  pipe?.on("data", (piece: Buffer) => {
    if (!reader.push(piece)) settle("it is not an executor");
  });
  return promise;
}
