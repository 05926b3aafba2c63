/** Ctrl-C and its like: the first asks the command to end and to clean up, the second ends it at once. */
import { SdkError, SdkErrorCode } from "../errors.ts";
import { ExitCode } from "./exit-codes.ts";

/** A terminal's Ctrl-C reaches the launcher and the command, and the launcher passes its own on: these two are one. */
const SAME_SIGNAL_MS = 200;

/** How long a command may take to end after the first signal. */
const GRACE_MS = 10_000;

const EXIT_CODES = {
  SIGINT: ExitCode.interrupted,
  SIGTERM: ExitCode.terminated,
  SIGHUP: ExitCode.terminated,
} as const;

export interface Signals {
  /** Aborted by the first signal; its reason has the code PFS_CANCELLED. */
  readonly signal: AbortSignal;
  /** Rejects with the signal's reason when the command has not ended some time after it. */
  readonly overdue: Promise<never>;
  /** The exit status that the signal asks for, once there was one. */
  exitCode(): ExitCode | undefined;
}

/** Listens until the process ends. */
export function listenForSignals(onFirst: () => void): Signals {
  const controller = new AbortController();
  let exitCode: ExitCode | undefined;
  let firstAt = 0;
  for (const name of Object.keys(EXIT_CODES) as (keyof typeof EXIT_CODES)[]) {
    process.on(name, () => {
      const now = performance.now();
      if (exitCode === undefined) {
        firstAt = now;
        exitCode = EXIT_CODES[name];
        onFirst();
        controller.abort(new SdkError(SdkErrorCode.cancelled, `ended by ${name}`, { signal: name }));
      } else if (now - firstAt > SAME_SIGNAL_MS) {
        process.exit(EXIT_CODES[name]);
      }
    });
  }
  const { signal } = controller;
  const overdue = new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => setTimeout(() => reject(signal.reason), GRACE_MS).unref());
  });
  return { signal, overdue, exitCode: () => exitCode };
}
