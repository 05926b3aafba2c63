/** Programs and jobs on this machine's own cores. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { ExecutorList } from "../runtime/job/candidates.ts";
import { JOB_HISTORY_FILE, JobHistory } from "../runtime/job/job-history.ts";
import type { JobInfo, JobOutcome } from "../runtime/contracts/jobs.ts";
import type { ProgramSpec } from "../runtime/job/loaded-program.ts";
import { partName, unnamedOut } from "../runtime/job/results.ts";
import { JobRunner } from "../runtime/job/runner.ts";
import type { Runtime } from "../runtime/machine.ts";
import { ingest } from "../runtime/stream/ingest.ts";
import type { NameRecord } from "../runtime/contracts/catalog.ts";
import type { StoreWriter } from "../runtime/contracts/chunks.ts";
import { sourceBytes } from "./files.ts";
import type { LoadedProgram, LoadOptions, ProgramBundle, RunOptions } from "./packetfs.ts";

/** The id of this machine's only executor. */
export const LOCAL_ID = "local";

export class LocalJobs {
  readonly #runtime: () => Promise<Runtime>;
  readonly #history: JobHistory;
  readonly #executors: ExecutorList = new ExecutorList();
  /** Outputs that nobody named: they are there to be read until this is closed. */
  readonly #unnamed: string[] = [];
  #runner: JobRunner | undefined;

  /** `runtime` opens the store for writing, once. */
  constructor(directory: string, runtime: () => Promise<Runtime>) {
    this.#runtime = runtime;
    this.#history = new JobHistory(join(directory, JOB_HISTORY_FILE));
  }

  async run(bundle: ProgramBundle, inputs: readonly NameRecord[], options: RunOptions): Promise<JobOutcome> {
    const { args, out, splitBytes, signal, onEvent } = options;
    const { store } = await this.#runtime();
    const writer = await store.openWriter();
    try {
      const program = await this.#store(writer, bundle, args);
      const spec = {
        ...program,
        id: randomBytes(4).toString("hex"),
        inputs,
        ...(splitBytes === undefined ? {} : { splitBytes }),
        ...(out === undefined ? {} : { out }),
      };
      const outcome = await (await this.#jobRunner()).run(spec, { signal, onEvent });
      if (outcome.file !== undefined && out === undefined) this.#unnamed.push(unnamedOut(spec.id));
      return outcome;
    } finally {
      await writer.close();
    }
  }

  async load(bundle: ProgramBundle, { args }: LoadOptions): Promise<LoadedProgram> {
    const { store } = await this.#runtime();
    const writer = await store.openWriter();
    try {
      const opened = await (await this.#jobRunner()).open(await this.#store(writer, bundle, args));
      const close = async (): Promise<void> => {
        await opened.close();
        await writer.close();
      };
      return { exec: (frame) => opened.exec(frame), close, [Symbol.asyncDispose]: close };
    } catch (error) {
      await writer.close();
      throw error;
    }
  }

  async list(): Promise<JobInfo[]> {
    return await this.#history.list(this.#runner);
  }

  /** False when this process runs no such job. */
  cancel(job: string): boolean {
    return this.#runner?.cancel(job) ?? false;
  }

  /** Packets in flight, and those finished since the first program ran. */
  numbers(): { readonly inFlight: number; readonly done: number } {
    const [executor] = this.#executors.list();
    const load = executor === undefined ? undefined : this.#runner?.loadOf(executor);
    return load ?? { inFlight: 0, done: 0 };
  }

  /** Ends what runs, and frees what nobody named. The runtime stays open. */
  async close(): Promise<void> {
    await this.#runner?.close();
    for (const out of this.#unnamed)
      await (await this.#runtime()).store.catalog.remove(partName(out, LOCAL_ID));
  }

  /** Stores the bundle, which stays as long as the writer is open, and finds out what it is. */
  async #store(writer: StoreWriter, { name, code }: ProgramBundle, args: unknown): Promise<ProgramSpec> {
    const { root } = await ingest(writer, sourceBytes(code, undefined));
    const description = await (await this.#runtime()).inspect(root);
    return { name, code: root, description, args: JSON.stringify(args ?? null) };
  }

  async #jobRunner(): Promise<JobRunner> {
    const { store, executor, events } = await this.#runtime();
    if (this.#runner === undefined) {
      if (executor !== undefined) this.#executors.add(executor);
      const openWriter = (): Promise<StoreWriter> => store.openWriter();
      this.#runner = new JobRunner({
        source: store,
        openWriter,
        executors: this.#executors,
        events,
        history: this.#history,
      });
    }
    return this.#runner;
  }
}
