/** Jobs over a real store and real local executors. */
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { refFromHex, refToHex } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import { ExecutorList } from "../../../runtime/job/candidates.ts";
import type { JobEvent } from "../../../runtime/contracts/events.ts";
import type { JobInput, JobOutcome, JobRequest, StoredProgram } from "../../../runtime/contracts/jobs.ts";
import type { ProgramDescription } from "../../../runtime/program/program.ts";
import { Jobs } from "../../../runtime/job/jobs.ts";
import type { RunJobOptions } from "../../../runtime/job/jobs.ts";
import { PROGRAM_LIMITS_DEFAULT } from "../../../runtime/limits.ts";
import { execute } from "../../../runtime/stream/execute.ts";
import { LaneSlots } from "../../../runtime/lane-slots.ts";
import { LocalExecutor } from "../../../runtime/executor/local-executor.ts";
import { inspectProgram, sharedOptions, processOptions } from "../../../runtime/executor/shared-processes.ts";
import { SpareExecutors } from "../../../runtime/sandbox/process/spare-executors.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { Store } from "../../../runtime/store/store.ts";
import type { StoreWriter } from "../../../runtime/contracts/chunks.ts";
import { programCode } from "../../program-code.ts";
import { inOnePiece } from "../store/store-fixture.ts";
import { withValue } from "../../../runtime/job/results.ts";

const THREADS = 2;
const LANE_INPUT_BYTES = 8 * 1024 * 1024;

export class JobHarness {
  readonly executors: ExecutorList = new ExecutorList();
  readonly jobs: Jobs;
  readonly store: Store;
  /** What is believed of a program without looking into it, by its code's root in hexadecimal digits. */
  readonly described: Map<string, ProgramDescription> = new Map();
  readonly #writer: StoreWriter;
  readonly #spares = new SpareExecutors(
    sharedOptions(processOptions(PROGRAM_LIMITS_DEFAULT, THREADS, LANE_INPUT_BYTES)),
  );
  readonly #made: LocalExecutor[] = [];
  #started = 0;

  private constructor(store: Store, writer: StoreWriter) {
    this.store = store;
    this.#writer = writer;
    this.jobs = new Jobs({
      source: store,
      openWriter: () => store.openWriter(),
      executors: this.executors,
      inspect: (code) => this.inspect(code),
      removeParts: async () => {},
    });
  }

  static async open(): Promise<JobHarness> {
    const store = await Store.open(mkdtempSync(join(tmpdir(), "packetfs-job-")));
    return new JobHarness(store, await store.openWriter());
  }

  /** An executor over the harness's store. */
  addExecutor(id: string): LocalExecutor {
    const executor = new LocalExecutor({
      lanes: new LaneSlots(),
      id,
      label: `node ${id}`,
      source: this.store,
      openWriter: () => this.store.openWriter(),
      has: (refs) => this.store.has(refs),
      spares: this.#spares,
      threads: THREADS,
      inputBytes: LANE_INPUT_BYTES,
    });
    this.#made.push(executor);
    this.executors.add(executor);
    return executor;
  }

  async putFile(name: string, content: string | Uint8Array): Promise<JobInput> {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    const { root, length } = await ingest(this.#writer, inOnePiece(bytes));
    return { name, root, length };
  }

  async putProgram(name: string, source: string, args: unknown = null): Promise<StoredProgram> {
    const { root } = await ingest(this.#writer, inOnePiece(programCode(source)));
    return { name, code: root, args: JSON.stringify(args) };
  }

  async run(
    program: StoredProgram,
    inputs: readonly JobInput[],
    spec: Partial<JobRequest> = {},
    options: RunJobOptions = {},
  ): Promise<JobOutcome> {
    const id = `job${++this.#started}`;
    return withValue(await this.jobs.run({ id, ...program, inputs, ...spec }, options));
  }

  /** What a file yields, by its root in hexadecimal digits. */
  async read(root: string): Promise<string> {
    return new TextDecoder().decode(await this.#bytes(refFromHex(root)!));
  }

  async inspect(code: Ref): Promise<ProgramDescription> {
    const described = this.described.get(refToHex(code));
    return described ?? (await inspectProgram(this.#spares, await this.#bytes(code)));
  }

  async #bytes(root: Ref): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    for await (const part of execute(this.store, root)) parts.push(part.slice());
    return Buffer.concat(parts);
  }

  async close(): Promise<void> {
    await this.jobs.close();
    for (const executor of this.#made) await executor.close();
    await this.#spares.close();
    await this.#writer.close();
    await this.store.close();
    await rm(this.store.directory, { recursive: true, force: true });
  }
}

/** Resolves with the first event that `wanted` accepts, and what to pass as `onEvent`. */
export function nextEvent(wanted: (event: JobEvent) => boolean): {
  readonly onEvent: (event: JobEvent) => void;
  readonly happened: Promise<void>;
} {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { onEvent: (event) => wanted(event) && resolve(), happened: promise };
}
