/** PacketFS on a directory: no daemon, no ports. Programs run on this machine's own cores. */
import { EventEmitter } from "node:events";
import { rm } from "node:fs/promises";
import { availableParallelism, hostname } from "node:os";
import { join } from "node:path";
import { CODE_EDITION } from "../packets/code/format.ts";
import { refFromHex, refToHex } from "../packets/digest.ts";
import type { Ref } from "../packets/digest.ts";
import { hasCode } from "../packets/errors.ts";
import type { ChunkPlacer, ChunkSource, ChunkStore } from "../runtime/contracts/chunks.ts";
import type { EventMap, Events, RepairEvent } from "../runtime/contracts/events.ts";
import { StoreError, StoreErrorCode } from "../runtime/errors.ts";
import type { Jobs } from "../runtime/job/jobs.ts";
import { WORKERS_MAX } from "../runtime/limits.ts";
import type { Machine, MachineOptions, Memory } from "../runtime/machine.ts";
import { executeInto } from "../runtime/stream/execute-into.ts";
import { ingest } from "../runtime/stream/ingest.ts";
import { makeTemporaryDirectory } from "../runtime/temporary-directory.ts";
import { Store } from "../runtime/store/store.ts";
import type { StoredProgram } from "../runtime/contracts/jobs.ts";
import { acceleratedEdition, guestEdition } from "../runtime/sandbox/edition.ts";
import { namesOfStanding } from "../runtime/sandbox/process/wall-states.ts";
import { checkArgs } from "./programs/args.ts";
import { bundleProgram } from "./programs/bundle.ts";
import { SdkError, SdkErrorCode, UsageError, fileError } from "./errors.ts";
import {
  checkFiles,
  checkName,
  fileHistory,
  findBytes,
  readBytes,
  fileInfo,
  findFiles,
  isListed,
  readFile,
  sourceBytes,
  streamParts,
} from "./files.ts";
import type { FoundBytes } from "./files.ts";
import type { Part } from "./target/file-target.ts";
import { fileNotFound, findFile } from "../runtime/find-file.ts";
import type { StoredFiles } from "../runtime/find-file.ts";
import type {
  FileInfo,
  FileKind,
  FileSource,
  GcReport,
  GetFileOptions,
  GetFileResult,
  GetOptions,
  JobInfo,
  JobResult,
  LoadedProgram,
  LanesOptions,
  LoadOptions,
  MachineLanes,
  NodeInfo,
  PacketFS,
  ProgramBundle,
  ProgramSource,
  PutOptions,
  PutResult,
  PutTreeOptions,
  PutTreeResult,
  RunOptions,
  StreamPart,
  SyncTreeOptions,
  SyncTreeResult,
  TransferCost,
  Tree,
  VerifyReport,
  WallState,
} from "./packetfs.ts";
import { ProgramInLanes } from "./exec-stream.ts";
import { lanesLimit } from "./lanes.ts";
import { NamedPut } from "./named-put.ts";
import { LaneSlots } from "../runtime/lane-slots.ts";
import type { TreePlace } from "./trees.ts";
import { jobResult } from "./job-result.ts";
import type { JobArgs, JobValue } from "./program.ts";
import { PacketCode } from "./code/builders.ts";
import { readResult, rememberResult } from "./programs/result-cache.ts";
import { atSourcePlaces, inSourcePlaces } from "./programs/source-places.ts";

/** What a program makes of so much is mostly written before another thread had started to write it. */
const LITTLE_INPUT_BYTES_MAX: number = 8 * 1024 * 1024;
/** The id of this machine's only executor. */
const LOCAL_ID = "local";

export interface LocalOptions {
  /** Packets with large inputs to work on at once, at most WORKERS_MAX; one per core by default. */
  readonly workers?: number;
  /**
   * Whether this process does one thing and ends: then little work starts no thread that it can do without. Default false.
   */
  readonly runsOnce?: boolean;
  /** A directory in which it is remembered, by their code, what programs say of themselves; in memory only unless given. */
  readonly cache?: string;
  /** Hears of what was found wrong in the store, and what became of it; must not throw. */
  readonly onRepair?: (event: RepairEvent) => void;
  /** Hears, once and when a first program has run, of each wall between programs and this machine; must not throw. */
  readonly onWalls?: (walls: readonly WallState[]) => void;
}

/**
 * Opens the store in a directory; the first put makes it. What only reads works beside a process that writes; writing
 * rejects with PFS_STORE_BUSY while another process does. A store that may only be read runs programs all the same. Rejects
 * with PFS_USAGE; what uses the store rejects with PFS_STORE_UNREADABLE where it is none, and what writes with
 * PFS_STORE_READ_ONLY where it can only be read.
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
  readonly #events: Events = new EventEmitter<EventMap>();
  /** For what only reads, until something was written. */
  readonly #reading: Opening<Store>;
  readonly #writing: Opening<Machine>;
  /** Runs programs where nothing can be written. */
  readonly #beside: Opening<BesideMachine>;
  /** One of the two machines: all programs run on the one that the first of them found. */
  readonly #runner: Opening<Machine>;
  /** There with the first program. */
  #jobs: Jobs | undefined;
  /** Of what is written by a machine that is opened now. */
  #writesLittle = false;
  #toldWalls = false;
  #isClosed = false;

  constructor(directory: string, options: LocalOptions) {
    this.#directory = directory;
    this.#options = options;
    const { workers, onRepair, cache } = options;
    const events = this.#events;
    if (onRepair !== undefined) events.on("repair", onRepair);
    const memory = cache === undefined ? undefined : memoryIn(cache);
    const machine = { id: LOCAL_ID, label: hostname(), workers, events, memory };
    this.#reading = new Opening(() => Store.open(directory, { readOnly: true, events }));
    this.#writing = new Opening(() =>
      openMachine({ directory, writesLittle: this.#writesLittle, ...machine }),
    );
    this.#beside = new Opening(async () =>
      BesideMachine.open(await this.#reading.get(), (own) => openMachine({ ...machine, ...own })),
    );
    this.#runner = new Opening(() => this.#openRunner());
  }

  async put(source: FileSource, options: PutOptions = {}): Promise<PutResult> {
    const { name, signal, onProgress } = options;
    checkName(name);
    const { store } = await this.#writable();
    const how = {
      ...(signal === undefined ? {} : { signal }),
      ...(onProgress === undefined ? {} : { onProgress }),
    };
    if (name === undefined) {
      await using writer = await store.openWriter();
      const stored = await ingest(writer, sourceBytes(source, signal), how);
      await writer.flush();
      return { ...stored, root: refToHex(stored.root) };
    }
    await using put = new NamedPut(store);
    const stored = await ingest(put, sourceBytes(source, signal), how);
    await put.bind({ name, root: stored.root, length: stored.length });
    return { ...stored, ...put.counts, root: refToHex(stored.root), name };
  }

  async *get(file: string, options?: GetOptions): AsyncGenerator<Uint8Array> {
    const files = await this.#files();
    yield* this.#rememberingDamage(readFile(files, file, options));
  }

  async getFile(file: string, path: string, options: GetFileOptions = {}): Promise<GetFileResult> {
    const files = await this.#files();
    const found = await findBytes(files, file, options.range);
    const read = (): AsyncIterable<Uint8Array> =>
      this.#rememberingDamage(readBytes(files, found, options.signal));
    const fill = (part: Part): Promise<number> => this.#fill(part, found, path, options);
    const { getFile } = await import("./target/get-file.ts");
    return await getFile(path, found, { read, fill }, options);
  }

  async #placer(): Promise<ChunkPlacer> {
    const store = await this.#readable();
    const { source } = await this.#files();
    return {
      read: (refs, signal) => source.read(refs, signal),
      place: (...what) => store.place(...what),
    };
  }

  async #fill(
    { handle }: Part,
    { root, start, end }: FoundBytes,
    path: string,
    { signal, onProgress }: GetFileOptions,
  ): Promise<number> {
    const placer = await this.#placer();
    try {
      return await executeInto(placer, root, handle.fd, {
        start,
        end,
        signal,
        onProgress: (bytes) => onProgress?.(bytes, end - start),
      });
    } catch (error) {
      if (hasCode(error, StoreErrorCode.chunkDamaged)) await this.#rememberDamage(String(error.data["ref"]));
      throw fileError(error, "write", path);
    }
  }

  async costOfPut(
    path: string,
    { name, signal }: Pick<PutOptions, "name" | "signal"> = {},
  ): Promise<TransferCost> {
    checkName(name);
    const { costOfStoring } = await import("./files.ts");
    return await costOfStoring(await this.#readable(), path, signal);
  }

  async costOfGet(file: string): Promise<TransferCost> {
    const { root, start, end } = await findBytes(await this.#files(), file, undefined);
    const length = end - start;
    return {
      root: refToHex(root),
      length,
      newBytes: length,
      wireBytes: { sent: 0, received: 0 },
      exact: true,
    };
  }

  async stat(file: string): Promise<FileInfo> {
    return fileInfo(await findFile(await this.#files(), file));
  }

  async kinds(roots: readonly string[]): Promise<(FileKind | undefined)[]> {
    const { kindsOf } = await import("./trees.ts");
    return await kindsOf(await this.#files(), roots);
  }

  async putTree(path: string, options?: PutTreeOptions): Promise<PutTreeResult> {
    const { putTree } = await import("./trees.ts");
    return await putTree(await this.#treePlace(), path, options);
  }

  async syncTree(path: string, name: string, options?: SyncTreeOptions): Promise<SyncTreeResult> {
    const { syncTree } = await import("./trees.ts");
    return await syncTree(await this.#treePlace(), path, name, options);
  }

  async openTree(file: string, { signal }: { readonly signal?: AbortSignal } = {}): Promise<Tree> {
    const { openTree } = await import("./trees.ts");
    const { catalog } = await this.#files();
    return await openTree({ catalog, source: await this.#placer() }, file, signal);
  }

  async #treePlace(): Promise<TreePlace> {
    const { store } = await this.#writable();
    const { storingHere } = await import("./trees.ts");
    return {
      files: await this.#files(),
      id: "",
      indexes: join(this.#directory, "trees"),
      begin: async ({ name }) => storingHere(store, name),
    };
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
    this.#writesLittle = this.#options.runsOnce === true;
    const machine = await this.#writable();
    if (!(await machine.store.catalog.remove(name))) throw fileNotFound(name);
    await machine.removeParts(name);
  }

  async *packets(file: string): AsyncGenerator<StreamPart> {
    const files = await this.#files();
    yield* this.#rememberingDamage(streamParts(files, file));
  }

  async run<Program>(
    program: ProgramSource,
    files: readonly string[],
    options: RunOptions<JobArgs<Program>> = {},
  ): Promise<JobResult<JobValue<Program>>> {
    checkName(options.out);
    checkArgs(options.args);
    checkFiles(options.files ?? {});
    // Bundled first: a program that is wrong shows before anything is opened.
    const isCode = program instanceof PacketCode;
    const bundle = isCode ? codeBundle(program) : await bundleProgram(program);
    const { args, out, splitBytes, signal, onEvent } = options;
    const access = await this.#files();
    const inputs = await Promise.all(files.map((file) => findFile(access, file)));
    const terms = await termsOf(access, options);
    const inputBytes = inputs.reduce((bytes, { length }) => bytes + length, 0);
    this.#writesLittle =
      this.#options.runsOnce === true && out === undefined && inputBytes <= LITTLE_INPUT_BYTES_MAX;
    const machine = await this.#runner.get();
    if (out !== undefined && machine !== this.#writing.opened) throw this.#readOnly(out);
    const { withValue } = await import("../runtime/job/results.ts");
    const work = this.#withProgram(machine, bundle, args, async (jobs, stored) =>
      withValue(
        await jobs.run(
          { ...stored, ...terms, inputs, splitBytes, out },
          { signal, onEvent, explain: (error) => atSourcePlaces(error, bundle) },
        ),
      ),
    );
    const outcome = await inSourcePlaces(bundle, work);
    return jobResult(outcome, (root) => this.get(root)) as JobResult<JobValue<Program>>;
  }

  async load(program: ProgramSource, options: LoadOptions = {}): Promise<LoadedProgram> {
    checkArgs(options.args);
    checkFiles(options.files ?? {});
    const bundle = program instanceof PacketCode ? codeBundle(program) : await bundleProgram(program);
    this.#requireOpen();
    const terms = await termsOf(await this.#files(), options);
    const machine = await this.#runner.get();
    const lanes = await this.#withProgram(machine, bundle, options.args, (jobs, stored) =>
      jobs.load({ ...stored, ...terms }),
    );
    return new ProgramInLanes(lanes, machine.store);
  }

  async nodes(): Promise<NodeInfo[]> {
    const executor = this.#jobs === undefined ? undefined : this.#runner.opened?.executor;
    const { standingWalls } = await import("../runtime/sandbox/process/executor-process.ts");
    const walls = standingWalls();
    const accelerators = this.#runner.opened?.executors.flatMap(({ accelerator }) => accelerator ?? []) ?? [];
    const unusedAccelerators = this.#runner.opened?.unusedAccelerators ?? [];
    const { open, use } = (this.#runner.opened?.lanes ?? new LaneSlots()).info(0);
    return [
      {
        id: LOCAL_ID,
        label: hostname(),
        role: "local",
        workers: this.#options.workers ?? availableParallelism(),
        ...(executor === undefined ? { inFlight: 0, done: 0 } : this.#jobs!.loadOf(executor)),
        editions: {
          js: [guestEdition()],
          kernel: [guestEdition(), ...accelerators.map(acceleratedEdition)],
          code: [CODE_EDITION],
        },
        accelerators,
        ...(unusedAccelerators.length === 0 ? {} : { unusedAccelerators }),
        ...(walls === undefined ? {} : { walls: namesOfStanding(walls) }),
        lastSeenMs: 0,
        lanes: { open, use },
        // Where there is nobody else, nobody is barred.
        barred: [],
      },
    ];
  }

  async lanes(options: LanesOptions = {}): Promise<MachineLanes[]> {
    const limit = lanesLimit(options);
    // What has run no program has no lanes.
    const slots = this.#runner.opened?.lanes ?? new LaneSlots();
    return [{ id: LOCAL_ID, label: hostname(), ...slots.info(limit) }];
  }

  async allow(node: string): Promise<void> {
    if (node === LOCAL_ID || node === hostname()) return;
    throw new SdkError(SdkErrorCode.notFound, `there is no node ${node} here; nodes are at hubs`, { node });
  }

  async jobs(): Promise<JobInfo[]> {
    if (this.#jobs !== undefined) return await this.#jobs.list();
    const { JOB_HISTORY_FILE, JobHistory } = await import("../runtime/job/job-history.ts");
    return await new JobHistory(join(this.#directory, JOB_HISTORY_FILE)).list();
  }

  async cancel(job: string): Promise<void> {
    if (this.#jobs?.cancel(job) === true) return;
    throw new SdkError(SdkErrorCode.notFound, `no job ${job} is running in this process`, { job });
  }

  async verify(options: { readonly signal?: AbortSignal } = {}): Promise<VerifyReport> {
    const report = await (await this.#readable()).verify(options.signal);
    if (report.lostRecords === report.mendedRecords && report.damaged.length === 0) return report;
    // Only a store that is written to has them again, and remembers what is damaged; not every store can be.
    const machine = await this.#writable().catch(() => undefined);
    return machine === undefined ? report : await machine.store.verify(options.signal);
  }

  async gc(options: { readonly signal?: AbortSignal } = {}): Promise<GcReport> {
    return await (await this.#writable()).store.gc(options.signal);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#runner.settled();
    await this.#jobs?.close();
    await (await this.#beside.settled())?.[Symbol.asyncDispose]();
    await (await this.#writing.settled())?.close();
    await (await this.#reading.settled())?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Stores the bundle, which is safe from gc while it is worked with. */
  async #withProgram<Result>(
    machine: Machine,
    { name, code, kind }: ProgramBundle & { readonly kind?: "code" },
    args: unknown,
    work: (jobs: Jobs, stored: StoredProgram) => Promise<Result>,
  ): Promise<Result> {
    this.#jobs ??= machine.openJobs();
    if (kind === "code") return await work(this.#jobs, { kind, name, code, args: "null" });
    await using writer = await machine.store.openWriter();
    const { root } = await ingest(writer, sourceBytes(code, undefined));
    try {
      return await work(this.#jobs, { name, code: root, args: JSON.stringify(args ?? null) });
    } finally {
      await this.#tellWalls(machine);
    }
  }

  async #tellWalls(machine: Machine): Promise<void> {
    if (this.#toldWalls) return;
    const walls = await machine.standingWalls();
    if (walls.length === 0) return;
    this.#toldWalls = true;
    this.#options.onWalls?.(walls);
  }

  async #files(): Promise<StoredFiles> {
    const store = await this.#readable();
    return { source: this.#beside.opened?.machine.source ?? store, catalog: store.catalog };
  }

  async #readable(): Promise<Store> {
    this.#requireOpen();
    return (await this.#writing.settled())?.store ?? (await this.#reading.get());
  }

  async #writable(): Promise<Machine> {
    this.#requireOpen();
    return await this.#writing.get();
  }

  async *#rememberingDamage<Item>(items: AsyncIterable<Item>): AsyncGenerator<Item> {
    try {
      yield* items;
    } catch (error) {
      if (hasCode(error, StoreErrorCode.chunkDamaged)) await this.#rememberDamage(String(error.data["ref"]));
      throw error;
    }
  }

  /**
   * A store that is written to remembers the chunk that it reads damaged, so that storing it again writes it anew. Not every
   * store can be written to, nor at any time: then whoever reads it next finds out again.
   */
  async #rememberDamage(hex: string): Promise<void> {
    const ref = refFromHex(hex);
    if (ref === undefined || this.#writing.opened !== undefined) return;
    try {
      await using store = await Store.open(this.#directory, { lockWaitMs: 0 });
      await store.read([ref]);
    } catch {
      // Damaged, as was to be shown, or not to be written to.
    }
  }

  async #openRunner(): Promise<Machine> {
    try {
      return await this.#writing.get();
    } catch (error) {
      if (!hasCode(error, StoreErrorCode.unreadable) && !hasCode(error, StoreErrorCode.readOnly)) throw error;
      // A store that may not be written to can be opened for reading, and what is no store cannot.
      await this.#reading.get().catch(() => {
        throw error;
      });
      return (await this.#beside.get()).machine;
    }
  }

  #readOnly(out: string): StoreError {
    return new StoreError(
      StoreErrorCode.readOnly,
      `the store ${this.#directory} may only be read: the result cannot be stored as ${JSON.stringify(out)}`,
    );
  }

  #requireOpen(): void {
    if (this.#isClosed) throw new StoreError(StoreErrorCode.closed, "the store is closed");
  }
}

/** What only reads a store needs nothing of what runs programs, and a command that lists names ends before it is loaded. */
async function openMachine(options: MachineOptions): Promise<Machine> {
  const { Machine } = await import("../runtime/machine.ts");
  return await Machine.open(options);
}

function memoryIn(directory: string): Memory {
  return {
    read: (key) => readResult(directory, key),
    remember: (key, value) => rememberResult(directory, key, value),
  };
}

/** What packet code is to a job: its 32 bytes, called by what makes them. */
function codeBundle(code: PacketCode): ProgramBundle & { readonly kind: "code" } {
  return { kind: "code", name: String(code), code: code.packetCode };
}

/** What is opened when it is first needed. A failure is told to those who asked, and forgotten: its cause may go away. */
class Opening<Opened> {
  /** Undefined while it is not open. */
  opened: Opened | undefined;
  readonly #open: () => Promise<Opened>;
  #pending: Promise<Opened> | undefined;

  constructor(open: () => Promise<Opened>) {
    this.#open = open;
  }

  async get(): Promise<Opened> {
    if (this.opened !== undefined) return this.opened;
    this.#pending ??= this.#open().then(
      (opened) => (this.opened = opened),
      (error: unknown) => {
        this.#pending = undefined;
        throw error;
      },
    );
    return await this.#pending;
  }

  /** What it was opened as, after an attempt that is under way; undefined when there was none that succeeded. */
  async settled(): Promise<Opened | undefined> {
    return this.opened ?? (await this.#pending?.catch(() => undefined));
  }
}

/** A machine beside a store that may only be read: programs and results are kept in a store of its own, gone with it. */
class BesideMachine implements AsyncDisposable {
  readonly machine: Machine;
  readonly #directory: string;

  private constructor(machine: Machine, directory: string) {
    this.machine = machine;
    this.#directory = directory;
  }

  static async open(
    files: ChunkSource,
    open: (options: Pick<MachineOptions, "directory" | "source">) => Promise<Machine>,
  ): Promise<BesideMachine> {
    const directory = await makeTemporaryDirectory("beside");
    try {
      const source = (own: Store): ChunkSource & AsyncDisposable => new BesideSource(own, files);
      return new BesideMachine(await open({ directory, source }), directory);
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.machine.close();
    await rm(this.#directory, { recursive: true, force: true });
  }
}

/** The chunks of a store, and where it has none those of another. */
class BesideSource implements ChunkSource, AsyncDisposable {
  readonly #own: ChunkStore;
  readonly #files: ChunkSource;

  constructor(own: ChunkStore, files: ChunkSource) {
    this.#own = own;
    this.#files = files;
  }

  async read(refs: readonly Ref[], signal?: AbortSignal): Promise<Uint8Array[]> {
    const here = await this.#own.has(Buffer.concat(refs), signal);
    const [own, files] = await Promise.all(
      [this.#own, this.#files].map((source, other) =>
        source.read(
          refs.filter((_ref, index) => here[index] === 1 - other),
          signal,
        ),
      ),
    );
    let nextOwn = 0;
    let nextFile = 0;
    return refs.map((_ref, index) => (here[index] === 1 ? own![nextOwn++]! : files![nextFile++]!));
  }

  /** Both stores are others'. */
  async [Symbol.asyncDispose](): Promise<void> {}
}

/** What a program has beside what it reads, and what computes its kernels. Rejects as `findFiles` does. */
async function termsOf(
  stored: StoredFiles,
  { files = {}, engine }: Pick<RunOptions, "files" | "engine">,
): Promise<Pick<StoredProgram, "files" | "engine">> {
  const found = await findFiles(stored, files);
  return { files: found, engine: engine === "auto" ? undefined : engine };
}
