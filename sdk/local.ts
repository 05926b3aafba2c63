/** PacketFS on a directory: no daemon, no ports. Programs run on this machine's own cores. */
import { availableParallelism, hostname } from "node:os";
import { refToHex } from "../packets/digest.ts";
import { partName } from "../runtime/job/results.ts";
import { Runtime } from "../runtime/machine.ts";
import { ingest } from "../runtime/stream/ingest.ts";
import { Store } from "../runtime/store/store.ts";
import { bundleProgram } from "./bundle.ts";
import { SdkError, SdkErrorCode } from "./errors.ts";
import {
  checkName,
  fileInfo,
  findFile,
  isListed,
  notFound,
  readFile,
  sourceBytes,
  streamParts,
} from "./files.ts";
import type { FileAccess } from "./files.ts";
import { LOCAL_ID, LocalJobs } from "./local-jobs.ts";
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
  ProgramSource,
  PutOptions,
  PutResult,
  RunOptions,
  StreamPart,
  VerifyReport,
} from "./packetfs.ts";
import type { JobArgs, JobValue } from "./program.ts";
import { inSourcePlaces } from "./source-places.ts";

export interface LocalOptions {
  /** Packets with large inputs to work on at once; one per core by default. */
  readonly workers?: number;
}

/**
 * Opens the store in a directory; the first put makes it. What only reads works beside a process that writes; writing
 * rejects with PFS_STORE_BUSY while another process does. Rejects with PFS_STORE_UNREADABLE.
 */
export async function openLocal(directory: string, options: LocalOptions = {}): Promise<PacketFS> {
  return new LocalPacketFS(directory, options);
}

class LocalPacketFS implements PacketFS {
  readonly #directory: string;
  readonly #options: LocalOptions;
  readonly #jobs: LocalJobs;
  /** Opened for reading until something is written. */
  #reading: Promise<Store> | undefined;
  #runtime: Promise<Runtime> | undefined;

  constructor(directory: string, options: LocalOptions) {
    this.#directory = directory;
    this.#options = options;
    this.#jobs = new LocalJobs(directory, () => this.#writable());
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

  async *list(options: { readonly prefix?: string } = {}): AsyncGenerator<FileInfo> {
    for await (const record of (await this.#readable()).catalog.list(options.prefix)) {
      if (isListed(record.name, options.prefix)) yield fileInfo(record);
    }
  }

  async remove(name: string): Promise<void> {
    const { store } = await this.#writable();
    if (!(await store.catalog.remove(name))) throw notFound(name);
    await store.catalog.remove(partName(name, LOCAL_ID));
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
    // Bundled first: a program that is wrong shows before anything is opened.
    const bundle = await bundleProgram(program);
    const access = await this.#files();
    const inputs = await Promise.all(files.map((file) => findFile(access, file)));
    const outcome = await inSourcePlaces(bundle, this.#jobs.run(bundle, inputs, options));
    return outcome as JobResult<JobValue<Program>>;
  }

  async load(program: ProgramSource, options: LoadOptions = {}): Promise<LoadedProgram> {
    return await this.#jobs.load(await bundleProgram(program), options);
  }

  async nodes(): Promise<NodeInfo[]> {
    return [
      {
        id: LOCAL_ID,
        label: hostname(),
        role: "local",
        width: this.#options.workers ?? availableParallelism(),
        ...this.#jobs.numbers(),
        lastSeenMs: 0,
      },
    ];
  }

  async jobs(): Promise<JobInfo[]> {
    return await this.#jobs.list();
  }

  async cancel(job: string): Promise<void> {
    if (this.#jobs.cancel(job)) return;
    throw new SdkError(SdkErrorCode.notFound, `no job ${job} is running in this process`, { job });
  }

  async verify(options: { readonly signal?: AbortSignal } = {}): Promise<VerifyReport> {
    return await (await this.#readable()).verify(options.signal);
  }

  async gc(options: { readonly signal?: AbortSignal } = {}): Promise<GcReport> {
    return await (await this.#writable()).store.gc(options.signal);
  }

  async close(): Promise<void> {
    await this.#jobs.close();
    await (await this.#runtime?.catch(() => undefined))?.close();
    await (await this.#reading?.catch(() => undefined))?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #files(): Promise<FileAccess> {
    const store = await this.#readable();
    return { source: store, resolve: (name) => store.catalog.resolve(name) };
  }

  async #readable(): Promise<Store> {
    if (this.#runtime !== undefined) return (await this.#runtime).store;
    this.#reading ??= Store.open(this.#directory, { readOnly: true });
    return await this.#reading;
  }

  async #writable(): Promise<Runtime> {
    this.#runtime ??= Runtime.open({
      directory: this.#directory,
      id: LOCAL_ID,
      label: hostname(),
      workers: this.#options.workers,
    });
    return await this.#runtime;
  }
}
