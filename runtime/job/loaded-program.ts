/** Programs that lanes load: their manifests, and one whose lanes stay for callers that make EXEC packets themselves. */
import { codeFor } from "../../packets/code/format.ts";
import { refAt, refToHex } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import type { PacketfsError } from "../../packets/errors.ts";
import { execPackets } from "../../packets/exec-frame.ts";
import { FaultCode } from "../../packets/faults.ts";
import { Flag, Op } from "../../packets/layout.ts";
import { packetCount, writePacket } from "../../packets/packet.ts";
import { JobError, JobErrorCode } from "../errors.ts";
import { JOB_TASKS_MAX, PROGRAM_FRAMES_MAX } from "../limits.ts";
import type { ChunkSink, StoreWriter } from "../contracts/chunks.ts";
import type { InlineCode, ProgramKind } from "../contracts/executor.ts";
import type { StoredProgram } from "../contracts/jobs.ts";
import { CODE_STAGES } from "../program/code.ts";
import { encodeManifest } from "../program/manifest.ts";
import type { Entry, ProgramDescription } from "../program/program.ts";
import { writeChunks } from "../stream/ingest.ts";
import type { Batch, BatchListener } from "./batch.ts";
import type { Dispatcher, SetTimer } from "./dispatcher.ts";
import { Locality, samplePackets } from "./locality.ts";

const LOST_TEXT = new TextEncoder().encode("every node that ran it died");

export interface ProgramLanesOptions {
  readonly dispatcher: Dispatcher;
  readonly setTimer: SetTimer;
  /** The dispatcher's number for it; closed with the program. */
  readonly program: number;
  readonly group: () => number;
  /** Holds the manifest; closed with the program. */
  readonly writer: StoreWriter;
  readonly closed: () => void;
}

export class ProgramLanes implements AsyncDisposable {
  readonly #options: ProgramLanesOptions;
  readonly #abort = new AbortController();
  #frames = 0;
  /** The `at` of the next packet: answers to packets that nobody waits for any more must not fit later ones. */
  #base = 0;
  #hasAbandoned = false;

  constructor(options: ProgramLanesOptions) {
    this.#options = options;
  }

  /**
   * Executes EXEC packets (n × 64 bytes) and resolves with n RETURN or FAULT packets, the i-th for the i-th and with i as
   * its `at`. `lane` and `at` of what is given are not looked at. What results refer to is there as long as the program is
   * open. Rejects with PFS_PACKET_INVALID, PFS_JOB_OVER_LIMIT, PFS_PROGRAM_INVALID, PFS_NO_EXECUTOR, PFS_CANCELLED, or the
   * signal's reason.
   */
  async exec(frame: Uint8Array, signal?: AbortSignal): Promise<Uint8Array> {
    const either = signal === undefined ? this.#abort.signal : AbortSignal.any([signal, this.#abort.signal]);
    either.throwIfAborted();
    const own = execFrame(frame, this.#base);
    const count = packetCount(own);
    if (count === 0) return own;
    if (this.#frames >= PROGRAM_FRAMES_MAX) throw overLimit("frames", this.#frames + 1, PROGRAM_FRAMES_MAX);
    const { budget } = this.#options.dispatcher;
    budget.take(count);
    this.#frames++;
    const base = this.#base;
    this.#base += count;
    try {
      return await this.#run(own, base, either);
    } catch (error) {
      this.#hasAbandoned = true;
      throw error;
    } finally {
      budget.give(count);
      if (--this.#frames === 0 && !this.#hasAbandoned) this.#base = 0;
    }
  }

  async #run(frame: Uint8Array, base: number, signal: AbortSignal): Promise<Uint8Array> {
    const { dispatcher, program, group, setTimer } = this.#options;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const abort = (): void => reject(signal.reason as Error);
    signal.addEventListener("abort", abort);
    const listener = listenerFor(() => batch, resolve, reject);
    const batch: Batch = dispatcher.start({ program, group: group(), frame, base, listener });
    const locality = new Locality(dispatcher, setTimer, batch, async () => samplePackets(frame, batch.count));
    try {
      await Promise.race([locality.known(), promise]);
      dispatcher.release(batch);
      await promise;
      return batch.answers.packets;
    } finally {
      signal.removeEventListener("abort", abort);
      locality.close();
      dispatcher.remove(batch);
    }
  }

  /** Frees the lanes; frames that are being executed reject with PFS_CANCELLED. */
  async close(): Promise<void> {
    if (this.#abort.signal.aborted) return;
    this.#abort.abort(new JobError(JobErrorCode.cancelled, "the program was closed"));
    const { dispatcher, program, writer, closed } = this.#options;
    dispatcher.closeProgram(program);
    closed();
    await writer.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function listenerFor(
  batch: () => Batch,
  resolve: () => void,
  reject: (error: PacketfsError) => void,
): BatchListener {
  return {
    settled: () => {},
    givenUp: (task) => {
      const fields = { op: Op.FAULT, flags: Flag.INLINE, lane: 1, at: task, from: FaultCode.internal };
      writePacket(batch().answers.packets, task, { ...fields, length: LOST_TEXT.byteLength, ref: LOST_TEXT });
    },
    finished: resolve,
    laneLost: () => {},
    failed: reject,
    logged: () => {},
    noted: () => {},
  };
}

/** A copy of the frame whose packets are numbered from `base` on. Throws PFS_PACKET_INVALID, PFS_JOB_OVER_LIMIT. */
function execFrame(frame: Uint8Array, base: number): Uint8Array {
  const count = packetCount(frame);
  if (count > JOB_TASKS_MAX) throw overLimit("tasks", count, JOB_TASKS_MAX);
  return execPackets(frame, 1, base);
}

function overLimit(what: "frames" | "tasks", actual: number, max: number): JobError {
  return new JobError(
    JobErrorCode.overLimit,
    `${actual} ${what === "tasks" ? "packets" : "frames at once"} are more than ${max}`,
    { [what]: actual, max },
  );
}

/** A program with its arguments, what it is made of, and what it says of itself. */
export interface ProgramSpec extends StoredProgram {
  readonly kind: ProgramKind;
  readonly description: ProgramDescription;
}

/** The manifest's bytes: what tells one program with its arguments from another. */
export function manifestBytes(
  { name, kind, code, description, args }: ProgramSpec,
  entry: Entry,
): Uint8Array {
  return encodeManifest({
    version: 1,
    kind,
    name,
    code: refToHex(code),
    entry,
    description,
    args,
  });
}

/**
 * What lanes load the entries of a program by, in their order: the manifests, which are written, or packet code for each. Of
 * that, rejects with PFS_CODE_INVALID; otherwise as `writeManifests`.
 */
export async function programSources(
  sink: ChunkSink,
  spec: ProgramSpec,
  entries: readonly Entry[],
): Promise<(Ref | InlineCode)[]> {
  if (spec.kind !== "code") return await writeManifests(sink, spec, entries);
  return entries.map((entry) => ({ inline: codeFor(spec.code, CODE_STAGES[entry]) }));
}

/** The refs of the entries' manifests, in their order. Rejects with PFS_PROGRAM_INVALID, or with what the sink rejects with. */
async function writeManifests(sink: ChunkSink, spec: ProgramSpec, entries: readonly Entry[]): Promise<Ref[]> {
  const refs = await writeChunks(
    sink,
    entries.map((entry) => manifestBytes(spec, entry)),
  );
  return entries.map((_, index) => refAt(refs, index));
}
