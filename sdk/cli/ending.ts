/**
 * How a command ends before its end: a signal (the first asks it to clean up and to end, the second ends it at once), or
 * a failure, told in one sentence on stderr or as one JSON object on stdout. Either gives an exit status.
 */
import { CommanderError } from "commander";
import { errorToJson, PacketfsError } from "../../packets/errors.ts";
import type { ErrorJson } from "../../packets/errors.ts";
import { SdkError, SdkErrorCode, systemError } from "../errors.ts";
import { ExitCode, exitCodeOf } from "./exit-codes.ts";
import { errorLines, printable } from "./format.ts";
import { jsonText } from "./output.ts";
import type { Output } from "./output.ts";

/** How long a command may take to end after the first signal. */
const GRACE_MS = 10_000;

const EXIT_CODES = {
  SIGINT: ExitCode.interrupted,
  SIGTERM: ExitCode.terminated,
  SIGHUP: ExitCode.terminated,
} as const;
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export interface Signals {
  /** Aborted by the first signal; its reason has the code PFS_CANCELLED. */
  readonly signal: AbortSignal;
  /** Rejects with the signal's reason when the command has not ended some time after it. */
  readonly overdue: Promise<never>;
  /** The exit status that the signal asks for, once there was one. */
  exitCode(): ExitCode | undefined;
  /** Ends the process, even if a library forgot a handle: nobody should wait at a prompt for one. */
  leave(exitCode: ExitCode): never;
}

type SignalName = keyof typeof EXIT_CODES;

/** Listens until the process ends. */
export function listenForSignals(onFirst: () => void): Signals {
  const controller = new AbortController();
  let exitCode: ExitCode | undefined;
  const end = (name: SignalName): void => {
    if (exitCode !== undefined) leave(EXIT_CODES[name]);
    exitCode = EXIT_CODES[name];
    onFirst();
    controller.abort(new SdkError(SdkErrorCode.cancelled, `ended by ${name}`, { signal: name }));
  };
  // A terminal sends its signals to the launcher too, which passes on what it gets: the n-th of either is the n-th.
  const counts = { heard: 0, told: 0 };
  const count = (way: keyof typeof counts, name: SignalName): void => {
    const known = Math.max(counts.heard, counts.told);
    if (++counts[way] > known) end(name);
  };
  for (const name of SIGNALS) process.on(name, () => count("heard", name));
  if (process.env["PACKETFS_LAUNCHED"] !== undefined) {
    delete process.env["PACKETFS_LAUNCHED"];
    process.on("message", ({ signal }: { readonly signal: SignalName }) => count("told", signal));
    // The launcher is gone, and was not able to say so: nobody waits for what is done here.
    const orphaned = (): void => end("SIGHUP");
    if (process.connected) process.on("disconnect", orphaned);
    else orphaned();
  }
  const { signal } = controller;
  const overdue = new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => setTimeout(() => reject(signal.reason), GRACE_MS).unref());
  });
  return {
    signal,
    overdue,
    exitCode: () => exitCode,
    leave: (code) => (exitCode === undefined ? process.exit(code) : leave(code)),
  };
}

/**
 * Ends a process that was told to end. Node would wait for calls to the operating system that are under way, and one that
 * opens or reads a pipe or a device may never return: then another program takes the process over, and ends at once.
 */
function leave(exitCode: ExitCode): never {
  const waits = process.getActiveResourcesInfo().some((name) => /^(FSReq|GetAddrInfo)/.test(name));
  if (waits && process.platform !== "win32") {
    process.emit("exit", exitCode);
    process.execve!("/bin/sh", ["sh", "-c", `exit ${exitCode}`], {});
  }
  process.exit(exitCode);
}

/** Says what went wrong and gives the exit status. */
export async function reportError(error: unknown, output: Output, signals: Signals): Promise<ExitCode> {
  if (error instanceof CommanderError && error.exitCode === 0) return ExitCode.ok;
  // Whoever read our output has had enough: not a failure, and nobody is left to tell.
  if (output.readerGone.aborted) return ExitCode.ok;
  const asked = signals.exitCode();
  const known = systemError(error);
  await say(known, output, asked !== undefined);
  return asked ?? exitCodeOf(known);
}

async function say(error: unknown, output: Output, cancelled: boolean): Promise<void> {
  const json = errorToJson(error);
  if (output.json) {
    const text = jsonText({ error: { ...json, cause: undefined } });
    if (output.carriesBytes) output.complain(text);
    else await output.line(text);
    return;
  }
  // What is wrong with a program's types has several lines; whatever others say is one sentence and a stack.
  const isOwn = error instanceof SdkError && error.code === SdkErrorCode.programInvalid;
  const [sentence, ...trace] = isOwn ? json.message.split("\n").map(printable) : describe(json);
  if (cancelled) {
    output.talk("pfs: cancelled");
    output.detail(`  ${sentence}`);
    return;
  }
  output.complain(`pfs: ${withHint(sentence!, json)}`);
  // Where in the program it happened.
  for (const line of trace) output.complain(line);
  for (let cause = json.cause; cause !== undefined; cause = cause.cause) {
    output.detail(`  because: ${describe(cause)[0]}`);
  }
  if (Object.keys(json.data).length > 0) output.detail(`  ${json.code} ${JSON.stringify(json.data)}`);
  if (error instanceof Error && !(error instanceof PacketfsError)) output.detail(error.stack ?? "");
}

/** What to do next, by code; of what is not there or not reached by what was asked for. */
const HINTS: Readonly<Record<string, string>> = {
  PFS_NAME_INVALID: "choose another name",
  PFS_PEER_UNREACHABLE:
    'look whether "pfs up" runs there and listens for others; where the hub has moved, write @HOST:PORT behind the token',
  PFS_PORT_UNAVAILABLE: "choose another with --listen",
  PFS_STORE_BUSY: "wait until it ends, or use it with --at if it is a hub",
  PFS_STORE_FULL: '"pfs gc" makes room, and more after a "pfs rm"',
  PFS_STORE_UNREADABLE: "name another directory with --store",
  file: '"pfs ls" lists what is stored',
  job: '"pfs jobs" lists those that there are',
  node: '"pfs nodes" lists those that there are',
  "PFS_PEER_UNREACHABLE node": 'look whether "pfs join" runs there and listens for others (--listen)',
};

/** The sentence says it itself where it has two parts already. */
function withHint(sentence: string, { code, data }: ErrorJson): string {
  const key = hintKey({ code, data });
  const hint = key === undefined || !Object.hasOwn(HINTS, key) ? undefined : HINTS[key];
  return hint === undefined || sentence.includes("; ") ? sentence : `${sentence}; ${hint}`;
}

function hintKey({ code, data }: Pick<ErrorJson, "code" | "data">): string | undefined {
  if (code === "PFS_NOT_FOUND") return Object.keys(data)[0];
  return code === "PFS_PEER_UNREACHABLE" && "node" in data ? `${code} node` : code;
}

/** The message's lines, harmless for a terminal. */
function describe({ code, message }: ErrorJson): string[] {
  const lines = errorLines(message);
  return code === "PFS_INTERNAL" ? [`${lines[0]} (a defect of PacketFS; --verbose says more)`] : lines;
}
