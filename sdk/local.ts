/** PacketFS on a directory: no daemon, no ports. Programs run on this machine's own cores. */
import { availableParallelism, hostname } from "node:os";
import { join } from "node:path";
import { refToHex } from "../packets/digest.ts";
import { JOB_HISTORY_FILE, JobHistory } from "../runtime/job/job-history.ts";
import type { Jobs } from "../runtime/job/jobs.ts";
import { WORKERS_MAX } from "../runtime/limits.ts";
import { Machine } from "../runtime/machine.ts";
import { ingest } from "../runtime/stream/ingest.ts";
import { Store } from "../runtime/store/store.ts";
import type { StoredProgram } from "../runtime/contracts/jobs.ts";
import { guestEdition } from "../runtime/sandbox/edition.ts";
import { bundleProgram, checkArgs } from "./programs/bundle.ts";
import { SdkError, SdkErrorCode, UsageError } from "./errors.ts";
import { checkName, fileHistory, fileInfo, isListed, readFile, sourceBytes, streamParts } from "./files.ts";
import { fileNotFound, findFile } from "../runtime/find-file.ts";
import type { StoredFiles } from "../runtime/find-file.ts";
import type {
  FileInfo,
  FileSource,
  GcReport,
  GetOptions,
  JobInfo,
  JobResult,
  LoadedProgram,
  LoadOptions,
  NodeInfo,
  PacketFS,
  ProgramBundle,
  ProgramSource,
  PutOptions,
  PutResult,
  RunOptions,
  StreamPart,
  VerifyReport,
} from "./packetfs.ts";
import type { JobArgs, JobValue } from "./program.ts";
import { atSourcePlaces, inSourcePlaces } from "./programs/source-places.ts";

/** The id of this machine's only executor. */
const LOCAL_ID = "local";

export interface LocalOptions {
  /** Packets with large inputs to work on at once, at most WORKERS_MAX; one per core by default. */
  readonly workers?: number;
}

/**
 * Opens the store in a directory; the first put makes it. What only reads works beside a process that writes; writing
 * rejects with PFS_STORE_BUSY while another process does. Rejects with PFS_STORE_UNREADABLE and PFS_USAGE.
 */
export async function openLocal(directory: string, options: LocalOptions = {}): Promise<PacketFS> {
  const { workers = 1 } = options;
  if (!Number.isInteger(workers) || workers < 0 || workers > WORKERS_MAX) {
    throw new UsageError(`workers is a whole number from 0 to ${WORKERS_MAX}, not ${workers}`);
  }
  return new LocalPacketFS(directory, options);
}

class LocalPacketFS implements PacketFS {
  readonly #directory: string;
  readonly #options: LocalOptions;
  /** Opened for reading until something is written. */
  #reading: Promise<Store> | undefined;
  #machine: Promise<Machine> | undefined;
  /** There with the first program. */
  #jobs: Jobs | undefined;

  constructor(directory: string, options: LocalOptions) {
    this.#directory = directory;
    this.#options = options;
  }

  async put(source: FileSource, options: PutOptions = {}): Promise<PutResult> {
    const { name, signal, onProgress } = options;
    checkName(name);
    const { store } = await this.#writable();
    await using writer = await store.openWriter();
    const stored = await ingest(writer, sourceBytes(source, signal), {
      ...(signal === undefined ? {} : { signal }),
      ...(onProgress === undefined ? {} : { onProgress }),
    });
    if (name === undefined) await writer.flush();
    else await writer.bind({ name, root: stored.root, length: stored.length });
    return { ...stored, root: refToHex(stored.root), ...(name === undefined ? {} : { name }) };
  }

  async *get(file: string, options?: GetOptions): AsyncGenerator<Uint8Array> {
    yield* readFile(await this.#files(), file, options);
  }

  async stat(file: string): Promise<FileInfo> {
    return fileInfo(await findFile(await this.#files(), file));
  }

  async history(name: string): Promise<FileInfo[]> {
    return fileHistory(await this.#files(), name);
  }

  async *list(options: { readonly prefix?: string } = {}): AsyncGenerator<FileInfo> {
    for await (const record of (await this.#readable()).catalog.list(options.prefix)) {
      if (isListed(record.name, options.prefix)) yield fileInfo(record);
    }
  }

  async remove(name: string): Promise<void> {
    const machine = await this.#writable();
    if (!(await machine.store.catalog.remove(name))) throw fileNotFound(name);
    await machine.removeParts(name);
  }

  async *packets(file: string): AsyncGenerator<StreamPart> {
    yield* streamParts(await this.#files(), file);
  }

  async run<Program>(
    program: ProgramSource,
    files: readonly string[],
    options: RunOptions<JobArgs<Program>> = {},
  ): Promise<JobResult<JobValue<Program>>> {
    checkName(options.out);
    checkArgs(options.args);
    // Bundled first: a program that is wrong shows before anything is opened.
    const bundle = await bundleProgram(program);
    const access = await this.#files();
    const inputs = await Promise.all(files.map((file) => findFile(access, file)));
    const { args, out, splitBytes, signal, onEvent } = options;
    const work = this.#withProgram(bundle, args, (jobs, stored) =>
      jobs.run(
        { ...stored, inputs, splitBytes, out },
        { signal, onEvent, explain: (error) => atSourcePlaces(error, bundle) },
      ),
    );
    return (await inSourcePlaces(bundle, work)) as JobResult<JobValue<Program>>;
  }

  async load(program: ProgramSource, options: LoadOptions = {}): Promise<LoadedProgram> {
    checkArgs(options.args);
    return await this.#withProgram(await bundleProgram(program), options.args, (jobs, stored) =>
      jobs.load(stored),
    );
  }

  async nodes(): Promise<NodeInfo[]> {
    const executor = this.#jobs === undefined ? undefined : (await this.#machine)?.executor;
    return [
      {
        id: LOCAL_ID,
        label: hostname(),
        role: "local",
        workers: this.#options.workers ?? availableParallelism(),
        ...(executor === undefined ? { inFlight: 0, done: 0 } : this.#jobs!.loadOf(executor)),
        editions: [guestEdition()],
        lastSeenMs: 0,
      },
    ];
  }

  async jobs(): Promise<JobInfo[]> {
    return await (this.#jobs ?? new JobHistory(join(this.#directory, JOB_HISTORY_FILE))).list();
  }

  async cancel(job: string): Promise<void> {
    if (this.#jobs?.cancel(job) === true) return;
    throw new SdkError(SdkErrorCode.notFound, `no job ${job} is running in this process`, { job });
  }

  async verify(options: { readonly signal?: AbortSignal } = {}): Promise<VerifyReport> {
    return await (await this.#readable()).verify(options.signal);
  }

  async gc(options: { readonly signal?: AbortSignal } = {}): Promise<GcReport> {
    return await (await this.#writable()).store.gc(options.signal);
  }

  async close(): Promise<void> {
    await this.#jobs?.close();
    await (await this.#machine?.catch(() => undefined))?.close();
    await (await this.#reading?.catch(() => undefined))?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Stores the bundle, which is safe from gc while it is worked with. */
  async #withProgram<Result>(
    { name, code }: ProgramBundle,
    args: unknown,
    work: (jobs: Jobs, stored: StoredProgram) => Promise<Result>,
  ): Promise<Result> {
    const machine = await this.#writable();
    this.#jobs ??= machine.openJobs();
    await using writer = await machine.store.openWriter();
    const { root } = await ingest(writer, sourceBytes(code, undefined));
    return await work(this.#jobs, { name, code: root, args: JSON.stringify(args ?? null) });
  }

  async #files(): Promise<StoredFiles> {
    const store = await this.#readable();
    return { source: store, catalog: store.catalog };
  }

  async #readable(): Promise<Store> {
    if (this.#machine !== undefined) return (await this.#machine).store;
    this.#reading ??= Store.open(this.#directory, { readOnly: true });
    return await this.#reading;
  }

  async #writable(): Promise<Machine> {
    this.#machine ??= Machine.open({
      directory: this.#directory,
      id: LOCAL_ID,
      label: hostname(),
      workers: this.#options.workers,
    });
    return await this.#machine;
  }
}
