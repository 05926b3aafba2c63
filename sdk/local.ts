/** PacketFS on a directory: no daemon, no ports. Programs run on this machine's own cores. */
import { randomBytes } from "node:crypto";
import { availableParallelism, hostname } from "node:os";
import { join } from "node:path";
import { refToHex } from "../packets/digest.ts";
import type { Ref } from "../packets/digest.ts";
import { ExecutorList } from "../runtime/job/executor-set.ts";
import { JOB_HISTORY_FILE, JobHistory } from "../runtime/job/job-history.ts";
import { partName } from "../runtime/job/output-file.ts";
import { JobRunner } from "../runtime/job/runner.ts";
import type { ProgramSpec } from "../runtime/job/job-types.ts";
import { Runtime } from "../runtime/runtime.ts";
import { ingest } from "../runtime/store/ingest.ts";
import { Store } from "../runtime/store/store.ts";
import type { WriteSession } from "../runtime/store/types.ts";
import { bundleProgram } from "./bundle.ts";
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

const NODE_ID = "local";

class LocalPacketFS implements PacketFS {
  readonly #directory: string;
  readonly #options: LocalOptions;
  readonly #executors: ExecutorList = new ExecutorList();
  readonly #history: JobHistory;
  /** Opened for reading until something is written. */
  #reading: Promise<Store> | undefined;
  #runtime: Promise<Runtime> | undefined;
  #runner: JobRunner | undefined;

  constructor(directory: string, options: LocalOptions) {
    this.#directory = directory;
    this.#options = options;
    this.#history = new JobHistory(join(directory, JOB_HISTORY_FILE));
  }

  async put(source: FileSource, options: PutOptions = {}): Promise<PutResult> {
    const { name, signal, onProgress } = options;
    checkName(name);
    const { store } = await this.#writable();
    await using session = closing(await store.session());
    const stored = await ingest(session.value, sourceBytes(source, signal), {
      ...(signal === undefined ? {} : { signal }),
      ...(onProgress === undefined ? {} : { onProgress }),
    });
    if (name === undefined) await session.value.flush();
    else await session.value.setName(name, stored.root, stored.length);
    return { ...stored, root: refToHex(stored.root), ...(name === undefined ? {} : { name }) };
  }

  async *get(file: string, options?: GetOptions): AsyncGenerator<Uint8Array> {
    yield* readFile(await this.#files(), file, options);
  }

  async stat(file: string): Promise<FileInfo> {
    return fileInfo(await findFile(await this.#files(), file));
  }

  async *list(options: { readonly prefix?: string } = {}): AsyncGenerator<FileInfo> {
    for (const record of (await this.#readable()).list(options.prefix)) {
      if (isListed(record.name, options.prefix)) yield fileInfo(record);
    }
  }

  async remove(name: string): Promise<void> {
    const { store } = await this.#writable();
    if (!(await store.remove(name))) throw notFound(name);
    await store.remove(partName(name, NODE_ID));
  }

  async *packets(file: string): AsyncGenerator<StreamPart> {
    yield* streamParts(await this.#files(), file);
  }

  async run(program: ProgramSource, files: readonly string[], options: RunOptions = {}): Promise<JobResult> {
    const { args, out, splitBytes, signal, onEvent } = options;
    checkName(out);
    const bundle = await bundleProgram(program);
    const access = await this.#files();
    const inputs = await Promise.all(files.map((file) => findFile(access, file)));
    const done = this.#withProgram(bundle.name, bundle.code, args, (spec, runner) =>
      runner.run(
        {
          ...spec,
          id: randomBytes(4).toString("hex"),
          inputs,
          ...(splitBytes === undefined ? {} : { splitBytes }),
          ...(out === undefined ? {} : { out }),
        },
        {
          ...(signal === undefined ? {} : { signal }),
          ...(onEvent === undefined ? {} : { onEvent }),
        },
      ),
    );
    return await inSourcePlaces(bundle, done);
  }

  async load(program: ProgramSource, { args }: LoadOptions = {}): Promise<LoadedProgram> {
    const { name, code } = await bundleProgram(program);
    const { store } = await this.#writable();
    const session = await store.session();
    try {
      const opened = await (await this.#jobRunner()).open(await this.#store(session, name, code, args));
      const close = async (): Promise<void> => {
        await opened.close();
        await session.close();
      };
      return { exec: (frame) => opened.exec(frame), close, [Symbol.asyncDispose]: close };
    } catch (error) {
      await session.close();
      throw error;
    }
  }

  async nodes(): Promise<NodeInfo[]> {
    const [executor] = this.#executors.list();
    const load = executor === undefined ? undefined : this.#runner?.loadOf(executor);
    return [
      {
        id: NODE_ID,
        label: hostname(),
        role: "local",
        width: this.#options.workers ?? availableParallelism(),
        inFlight: load?.inFlight ?? 0,
        done: load?.done ?? 0,
        lastSeenMs: 0,
      },
    ];
  }

  async jobs(): Promise<JobInfo[]> {
    return await this.#history.list(this.#runner);
  }

  async cancel(job: string): Promise<void> {
    if (this.#runner?.cancel(job) !== true) throw notFound(job);
  }

  async verify(options: { readonly signal?: AbortSignal } = {}): Promise<VerifyReport> {
    return await (await this.#readable()).verify(options.signal);
  }

  async gc(options: { readonly signal?: AbortSignal } = {}): Promise<GcReport> {
    return await (await this.#writable()).store.gc(options.signal);
  }

  async close(): Promise<void> {
    await this.#runner?.close();
    await (await this.#runtime?.catch(() => undefined))?.close();
    await (await this.#reading?.catch(() => undefined))?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Stores the bundle and finds out what it is, for as long as `use` takes. */
  async #withProgram<T>(
    name: string,
    code: Uint8Array,
    args: unknown,
    use: (spec: ProgramSpec, runner: JobRunner) => Promise<T>,
  ): Promise<T> {
    const { store } = await this.#writable();
    await using session = closing(await store.session());
    const spec = await this.#store(session.value, name, code, args);
    return await use(spec, await this.#jobRunner());
  }

  async #store(session: WriteSession, name: string, code: Uint8Array, args: unknown): Promise<ProgramSpec> {
    const { root }: { root: Ref } = await ingest(session, sourceBytes(code, undefined));
    const description = await (await this.#writable()).inspect(root);
    return { name, code: root, description, args: JSON.stringify(args ?? null) };
  }

  async #files(): Promise<FileAccess> {
    const store = await this.#readable();
    return { source: store, resolve: async (name) => store.resolve(name) };
  }

  async #readable(): Promise<Store> {
    if (this.#runtime !== undefined) return (await this.#runtime).store;
    this.#reading ??= Store.open(this.#directory, { readOnly: true });
    return await this.#reading;
  }

  async #writable(): Promise<Runtime> {
    this.#runtime ??= Runtime.open({
      directory: this.#directory,
      id: NODE_ID,
      label: hostname(),
      workers: this.#options.workers,
    });
    return await this.#runtime;
  }

  async #jobRunner(): Promise<JobRunner> {
    const { store, executor } = await this.#writable();
    if (this.#runner === undefined) {
      if (executor !== undefined) this.#executors.add(executor);
      const sessions = (): Promise<WriteSession> => store.session();
      this.#runner = new JobRunner({
        source: store,
        sessions,
        executors: this.#executors,
        history: this.#history,
      });
    }
    return this.#runner;
  }
}

/** A session that `await using` closes. */
function closing(session: WriteSession): AsyncDisposable & { readonly value: WriteSession } {
  return { value: session, [Symbol.asyncDispose]: () => session.close() };
}
