/** PacketFS over a hub: names and jobs are the hub's, bytes go to it or to one of its nodes. */
import { refToHex, sameBytes } from "../packets/digest.ts";
import { hasCode } from "../packets/errors.ts";
import { HubClient } from "../nodes/remote/hub-client.ts";
import type { RemoteProgram } from "../nodes/remote/hub-client.ts";
import type { ConnectionEvent } from "../nodes/remote/lasting-link.ts";
import { WireErrorCode } from "../nodes/errors.ts";
import type { RemoteStore } from "../nodes/remote/remote-store.ts";
import { HeldFiles } from "../runtime/stream/execute.ts";
import type { Binding, NameRecord } from "../runtime/contracts/catalog.ts";
import type { ChunkSource } from "../runtime/contracts/chunks.ts";
import { ingest } from "../runtime/stream/ingest.ts";
import type { StoredTreeResult } from "../runtime/tree/store-tree.ts";
import { PacketCode } from "./code/builders.ts";
import { checkArgs } from "./programs/args.ts";
import { bundleProgram } from "./programs/bundle.ts";
import {
  checkFiles,
  checkName,
  fileHistory,
  fileInfo,
  findBytes,
  isListed,
  readBytes,
  readFile,
  sourceBytes,
  streamParts,
} from "./files.ts";
import type { FoundBytes } from "./files.ts";
import { FileFromPeer } from "./memory/get-file.ts";
import { getManifest, getTree } from "./memory/get-tree.ts";
import { NearSource } from "./memory/near-source.ts";
import type { Part } from "./target/file-target.ts";
import { getFile } from "./target/get-file.ts";
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
  MaintenanceOptions,
  NodeInfo,
  PacketFS,
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
} from "./packetfs.ts";
import { ClientMemory } from "./memory/client-memory.ts";
import type { ClientMemoryOptions } from "./memory/client-memory.ts";
import { costOfPut, putByTransfer } from "./memory/put-file.ts";
import type { FilePut } from "./memory/put-file.ts";
import { beginTreePut, isForSession } from "./memory/put-tree.ts";
import { NamedPut } from "./named-put.ts";
import { transferInfo } from "./transfer-info.ts";
import { ProgramInLanes } from "./exec-stream.ts";
import { lanesLimit } from "./lanes.ts";
import { jobResult } from "./job-result.ts";
import type { JobArgs, JobValue } from "./program.ts";
import { cacheDirectory } from "./programs/result-cache.ts";
import { kindsOf, openTree, putTree, syncTree } from "./trees.ts";
import type { BringTree, BroughtTree, TreePlace } from "./trees.ts";
import { inSourcePlaces } from "./programs/source-places.ts";

/** What a hub says that does not give a file a name. */
const REFUSALS = [WireErrorCode.chunkMissing, WireErrorCode.notAllowed, WireErrorCode.quota] as const;

export interface ConnectOptions {
  /**
   * A node's label or id: bytes are stored at it and read from it, instead of the hub. A put whose connection to the hub is
   * lost before the name is there leaves its bytes at the node until the next put of that name.
   */
  readonly node?: string;
  readonly signal?: AbortSignal;
  /**
   * How long a call waits for a hub or node that is lost to be there again, in milliseconds; 30 s by default, and 0 for not
   * at all. When it is there again, what was running goes on where it was.
   */
  readonly reconnectMs?: number;
  /**
   * Whether packets of loaded programs go to the network's nodes themselves where they can be reached, and not through the hub; true
   * by default.
   */
  readonly direct?: boolean;
  /**
   * Whether files travel encrypted ("sealed", the default), or unencrypted ("clear") where hub or node would have it so too, which is
   * for networks that you trust: whoever is on the line reads them, and what he changes is noticed. All else is encrypted.
   */
  readonly bulk?: "sealed" | "clear";
  /**
   * Remembers on this machine what is stored, so that the next version of a file goes as what changed of it, and of one that did not
   * change nothing is read. All processes of a user may share it. Nothing is remembered by default.
   */
  readonly cache?: ClientMemoryOptions | undefined;
  /** Told when the connection is lost while a call needs it, and when it is there again. */
  readonly onConnection?: (event: ConnectionEvent) => void;
}

/**
 * Connects to the hub that a client token names. A connection that is lost later is made again by itself. Rejects with
 * PFS_TOKEN_INVALID, PFS_PEER_UNREACHABLE, PFS_PEER_REFUSED, or PFS_NOT_FOUND when the network has no such node.
 */
export async function connect(token: string, options: ConnectOptions = {}): Promise<PacketFS> {
  const { node, bulk, cache, ...connection } = options;
  const hub = await HubClient.connect(token, { ...connection, allowsClear: bulk === "clear" });
  try {
    const data = node === undefined ? hub.data : await hub.dialNode(node);
    return new RemotePacketFS(hub, data, cache === undefined ? undefined : await ClientMemory.open(cache));
  } catch (error) {
    await hub.close();
    throw error;
  }
}

class RemotePacketFS implements PacketFS {
  readonly #hub: HubClient;
  /** Where bytes go to and come from: the hub itself, or the node that was asked for. */
  readonly #data: RemoteStore;
  readonly #files: StoredFiles;
  readonly #memory: ClientMemory | undefined;

  constructor(hub: HubClient, data: RemoteStore, memory: ClientMemory | undefined) {
    this.#hub = hub;
    this.#data = data;
    this.#memory = memory;
    this.#files = { source: data, catalog: hub.data.catalog };
  }

  async put(source: FileSource, options: PutOptions = {}): Promise<PutResult> {
    checkName(options.name);
    const put = (): Promise<PutResult> => this.#put(source, options);
    // A stream's beginning cannot be read twice.
    return await (source instanceof Uint8Array || isPath(source) ? this.#again(put) : put());
  }

  /** Stores it once more where the connection was lost meanwhile: what the peer has is not sent again. */
  async #again<Result>(put: () => Promise<Result>): Promise<Result> {
    try {
      return await put();
    } catch (error) {
      if (!hasCode(error, WireErrorCode.putLost)) throw error;
      return await put();
    }
  }

  async #put(source: FileSource, options: PutOptions): Promise<PutResult> {
    const { name, signal, onProgress } = options;
    const sent = isPath(source) ? await this.#putByTransfer(source.path, options) : undefined;
    if (sent !== undefined) return sent;
    const how = {
      ...(signal === undefined ? {} : { signal }),
      ...(onProgress === undefined ? {} : { onProgress }),
    };
    if (name === undefined) {
      await using writer = await this.#data.openWriter();
      const stored = await ingest(writer, sourceBytes(source, signal), how);
      await writer.flush();
      return { ...stored, root: refToHex(stored.root) };
    }
    await using put = new NamedPut(this.#data);
    const stored = await ingest(put, sourceBytes(source, signal), how);
    await this.#bind((binding) => put.bind(binding), { ...stored, name }, signal);
    return { ...stored, ...put.counts, root: refToHex(stored.root), name };
  }

  /** Undefined where the file goes by messages of the session. */
  async #putByTransfer(path: string, options: PutOptions): Promise<PutResult | undefined> {
    const { name, signal } = options;
    await using sent = await putByTransfer(this.#filePut(path, options));
    if (sent === undefined) return undefined;
    const { put, root, length, packets, chunks } = sent;
    const { catalog } = this.#data;
    if (name === undefined) await catalog.flush(put);
    else await this.#bind((binding) => catalog.bind(binding, {}, put), { name, root, length }, signal);
    await sent.remember();
    return {
      root: refToHex(root),
      length,
      packets,
      chunks,
      newChunks: put.stats.chunks,
      newBytes: put.stats.plainBytes,
      storedBytes: put.stats.sentBytes,
      // Of a file that was not read nobody has counted its chunks.
      transfer: transferInfo(
        put.stats,
        length,
        chunks === 0 ? undefined : chunks - put.stats.chunks,
        this.#data.transfers.route,
      ),
      ...(name === undefined ? {} : { name }),
    };
  }

  /** A node keeps what it was given under the name too, so that its own gc knows. */
  async #bind(
    bind: (binding: Binding) => Promise<NameRecord>,
    { name, root, length }: Binding,
    signal: AbortSignal | undefined,
  ): Promise<NameRecord> {
    const record = await bind({ name, root, length });
    return this.#data === this.#hub.data ? record : await this.#bindAtHub(record, signal);
  }

  async #bindAtHub(record: NameRecord, signal: AbortSignal | undefined): Promise<NameRecord> {
    const { name, root, length } = record;
    try {
      return await this.#hub.bindAt(this.#data.link.peer.id, { name, root, length }, signal);
    } catch (error) {
      // Where nobody knows what came of it, the hub may have the name, and counts on the node.
      if (REFUSALS.some((code) => hasCode(error, code))) await this.#takeBack(record).catch(() => undefined);
      throw error;
    }
  }

  /**
   * Has the node keep under the name what it kept there before: of what the hub does not know, nobody tells the node when the
   * name is removed.
   */
  async #takeBack({ name, root, version }: NameRecord): Promise<void> {
    const node = this.#data.catalog;
    const known = await this.#hub.data.catalog.resolve(name);
    if (known !== undefined && sameBytes(known.root, root)) return;
    const [latest, before] = await node.history(name);
    if (latest?.version !== version) return;
    const condition = { expected: version };
    if (before === undefined) await node.remove(name, condition);
    else await node.bind({ name, root: before.root, length: before.length }, condition);
  }

  async *get(file: string, options: GetOptions = {}): AsyncGenerator<Uint8Array> {
    const { reuse = [], signal } = options;
    const files = this.#filesForOne();
    if (reuse.length === 0) return yield* readFile(files, file, options);
    await using held = await HeldFiles.open(reuse, signal);
    return yield* readFile({ ...files, source: held.before(files.source) }, file, options);
  }

  async getFile(file: string, path: string, options: GetFileOptions = {}): Promise<GetFileResult> {
    const { range, signal, onProgress, onLeft } = options;
    const { catalog, source } = this.#filesForOne();
    const found = await findBytes({ catalog, source }, file, range);
    const { root, end, isWhole, name = options.name } = found;
    const read = (held: readonly string[]): AsyncIterable<Uint8Array> =>
      this.#readBeside(source, found, held, signal);
    if (!isWhole) return await getFile(path, found, { read }, options);
    await using incoming = this.#incoming({
      root,
      length: end,
      path,
      name,
      signal,
      onProgress: (bytes, step) => onProgress?.(bytes, end, step),
      leavesPart: onLeft !== undefined,
    });
    const isThere = (): Promise<boolean> => incoming.isThere();
    const fill = (part: Part): Promise<number | undefined> => incoming.fill(part);
    const survives = (error: unknown): boolean => incoming.survives(error);
    const got = await getFile(path, found, { read, isThere, fill, survives }, options).catch(
      (error: unknown) => {
        if (incoming.leftBytes !== undefined) onLeft?.(incoming.leftBytes, end);
        throw error;
      },
    );
    if (got.unchanged === true) return got;
    await incoming.remember();
    const { transfer } = incoming;
    return transfer === undefined ? got : { ...got, transfer };
  }

  #incoming(what: Omit<ConstructorParameters<typeof FileFromPeer>[0], "peer" | "memory">): FileFromPeer {
    return new FileFromPeer({ peer: this.#data, memory: this.#memory, ...what });
  }

  async costOfPut(path: string, options: Pick<PutOptions, "name" | "signal"> = {}): Promise<TransferCost> {
    checkName(options.name);
    return await costOfPut(this.#filePut(path, options));
  }

  async costOfGet(
    file: string,
    path: string,
    options: Pick<GetFileOptions, "name" | "signal"> = {},
  ): Promise<TransferCost> {
    const { root, end, name = options.name } = await findBytes(this.#files, file, undefined);
    const { signal } = options;
    const what = { root, length: end, path, name, signal };
    await using incoming = this.#incoming({ ...what, onProgress: () => {}, leavesPart: false });
    return await incoming.cost();
  }

  #filePut(path: string, { name, signal, onProgress }: PutOptions): FilePut {
    return {
      peer: this.#data,
      history: async () => (name === undefined ? [] : await this.#hub.data.catalog.history(name)),
      memory: this.#memory,
      path,
      name,
      signal,
      onProgress,
    };
  }

  /** For whoever reads one file. The chunks of a file at a node are not the hub's. */
  #filesForOne(): StoredFiles {
    return this.#data === this.#hub.data ? this.#data.forOneFile() : this.#files;
  }

  async *#readBeside(
    source: ChunkSource,
    found: FoundBytes,
    paths: readonly string[],
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array> {
    await using held = await HeldFiles.open(paths, signal);
    yield* readBytes({ source: held.before(source) }, found, signal);
  }

  async stat(file: string): Promise<FileInfo> {
    return fileInfo(await findFile(this.#files, file));
  }

  history(name: string): Promise<FileInfo[]> {
    return fileHistory(this.#files, name);
  }

  async *list(options: { readonly prefix?: string } = {}): AsyncGenerator<FileInfo> {
    for await (const record of this.#hub.data.catalog.list(options.prefix ?? "")) {
      if (isListed(record.name, options.prefix)) yield fileInfo(record);
    }
  }

  async kinds(roots: readonly string[]): Promise<(FileKind | undefined)[]> {
    return await kindsOf(this.#files, roots);
  }

  async putTree(path: string, options?: PutTreeOptions): Promise<PutTreeResult> {
    return await this.#storeTree((place) => putTree(place, path, options), options?.signal);
  }

  async syncTree(path: string, name: string, options?: SyncTreeOptions): Promise<SyncTreeResult> {
    return await this.#storeTree((place) => syncTree(place, path, name, options), options?.signal);
  }

  async openTree(file: string, { signal }: { readonly signal?: AbortSignal } = {}): Promise<Tree> {
    const memory = this.#memory;
    if (memory === undefined) return await openTree(this.#files, file, signal);
    const { catalog } = this.#files;
    const near = new NearSource(this.#files.source);
    const found = async (record: NameRecord): Promise<void> => {
      near.near = await memory.store.look();
      const history = (): Promise<readonly NameRecord[]> => this.#hub.data.catalog.history(record.name);
      await getManifest({ peer: this.#data, memory, record, history, near, signal });
    };
    try {
      return await openTree({ catalog, source: near }, file, signal, {
        found,
        bring: (...wanted) => this.#bringTree(memory, ...wanted),
      });
    } finally {
      await near.close();
    }
  }

  /** By what is kept, or where that is of no use, by messages of the session. */
  async #storeTree<Result>(
    store: (place: TreePlace) => Promise<Result>,
    signal: AbortSignal | undefined,
  ): Promise<Result> {
    const by = (memory: ClientMemory | undefined): Promise<Result> =>
      this.#again(() => store(this.#treePlace(memory, signal)));
    if (this.#memory === undefined) return await by(undefined);
    try {
      return await by(this.#memory);
    } catch (error) {
      signal?.throwIfAborted();
      if (!isForSession(error)) throw error;
      return await by(undefined);
    }
  }

  #treePlace(memory: ClientMemory | undefined, signal: AbortSignal | undefined): TreePlace {
    const { catalog } = this.#data;
    return {
      files: this.#files,
      id: this.#data.link.peer.id,
      indexes: cacheDirectory("trees"),
      begin: async ({ name, ...beginning }) => {
        const bind = async (
          { root, length }: StoredTreeResult,
          set: (binding: Binding) => Promise<NameRecord>,
          flush: () => Promise<void>,
        ): Promise<NameRecord | undefined> => {
          if (name !== undefined) return await this.#bind(set, { name, root, length }, signal);
          await flush();
          return undefined;
        };
        return await beginTreePut({
          ...beginning,
          peer: this.#data,
          memory,
          name,
          signal,
          bind: (stored, put) =>
            bind(
              stored,
              (binding) => catalog.bind(binding, {}, put),
              async () => {
                if (put !== undefined) await catalog.flush(put);
              },
            ),
          bindWritten: (stored, writer) =>
            bind(
              stored,
              (binding) => writer.bind(binding),
              () => writer.flush(),
            ),
        });
      },
    };
  }

  async #bringTree(
    memory: ClientMemory,
    ...[record, target, signal, onProgress]: Parameters<BringTree>
  ): Promise<BroughtTree | undefined> {
    const fetched = await getTree({
      peer: this.#data,
      memory,
      record,
      history: () => this.#hub.data.catalog.history(record.name),
      target,
      signal,
      onProgress,
    });
    if (fetched === undefined) return undefined;
    const { source, stats } = fetched;
    const { route } = this.#data.transfers;
    const transfer = stats === undefined ? undefined : transferInfo(stats, record.length, undefined, route);
    return { source, transfer, [Symbol.asyncDispose]: () => fetched[Symbol.asyncDispose]() };
  }

  async remove(name: string): Promise<void> {
    if (!(await this.#hub.data.catalog.remove(name))) throw fileNotFound(name);
  }

  packets(file: string): AsyncIterable<StreamPart> {
    return streamParts(this.#files, file);
  }

  async run<Program>(
    program: ProgramSource,
    files: readonly string[],
    options: RunOptions<JobArgs<Program>> = {},
  ): Promise<JobResult<JobValue<Program>>> {
    checkName(options.out);
    checkArgs(options.args);
    const { files: beside, engine, ...rest } = options;
    const terms = termsOf({ files: beside, engine });
    const outcome = await this.#withProgram(program, (stored) =>
      this.#hub.run({ ...stored, ...rest, ...terms, files }),
    );
    return jobResult(outcome, (root) => this.get(root)) as JobResult<JobValue<Program>>;
  }

  async load(program: ProgramSource, options: LoadOptions = {}): Promise<LoadedProgram> {
    checkArgs(options.args);
    const { args } = options;
    const terms = termsOf(options);
    const lanes = await this.#withProgram(program, (stored) =>
      this.#hub.load({ ...stored, ...terms, ...(args === undefined ? {} : { args }) }),
    );
    return new ProgramInLanes(lanes, this.#hub.data);
  }

  /** Stores the program's bundle at the hub for as long as `use` takes. */
  async #withProgram<T>(source: ProgramSource, use: (program: RemoteProgram) => Promise<T>): Promise<T> {
    if (source instanceof PacketCode)
      return await use({ kind: "code", program: "packet code", code: source.packetCode });
    const bundle = await bundleProgram(source);
    const { name, code } = bundle;
    await using writer = await this.#hub.data.openWriter();
    const { root } = await ingest(writer, sourceBytes(code, undefined));
    return await inSourcePlaces(bundle, use({ program: name, code: root }));
  }

  async nodes(): Promise<NodeInfo[]> {
    return (await this.#hub.nodes()).map(
      ({
        id,
        label,
        role,
        address,
        workers,
        editions,
        accelerators,
        unusedAccelerators,
        walls,
        inFlight,
        done,
        lastSeenMs,
        lanes,
        barred,
      }) => ({
        id,
        label,
        role,
        workers,
        editions,
        accelerators,
        inFlight,
        done,
        lastSeenMs,
        barred,
        ...(address === undefined ? {} : { address }),
        ...(unusedAccelerators === undefined ? {} : { unusedAccelerators }),
        ...(walls === undefined ? {} : { walls }),
        ...(lanes === undefined ? {} : { lanes }),
      }),
    );
  }

  async lanes(options: LanesOptions = {}): Promise<MachineLanes[]> {
    return await this.#hub.lanes(lanesLimit(options));
  }

  async allow(node: string): Promise<void> {
    await this.#hub.allow(node);
  }

  async jobs(): Promise<JobInfo[]> {
    return await this.#hub.jobs();
  }

  async cancel(job: string): Promise<void> {
    await this.#hub.cancel(job);
  }

  async verify(options: MaintenanceOptions = {}): Promise<VerifyReport> {
    return await this.#hub.verify(options);
  }

  async gc(options: MaintenanceOptions = {}): Promise<GcReport> {
    return await this.#hub.gc(options);
  }

  async close(): Promise<void> {
    this.#memory?.[Symbol.dispose]();
    if (this.#data !== this.#hub.data) await this.#data.link.close();
    await this.#hub.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** What a program has beside what it reads, and what computes its kernels. Throws PFS_USAGE. */
function termsOf({ files = {}, engine }: ProgramTerms): Pick<RemoteProgram, "beside" | "engine"> {
  checkFiles(files);
  return { beside: files, ...(engine === undefined || engine === "auto" ? {} : { engine }) };
}

interface ProgramTerms {
  readonly files?: LoadOptions["files"] | undefined;
  readonly engine?: LoadOptions["engine"] | undefined;
}

/** A stream of Node's has a path too, and what comes of it is something else. */
function isPath(source: FileSource): source is { readonly path: string } {
  if (source instanceof Uint8Array || typeof source !== "object" || source === null) return false;
  return !(Symbol.asyncIterator in source) && typeof source.path === "string";
}
