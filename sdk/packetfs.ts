/**
 * What a program that uses PacketFS sees: the same interface whether it was opened on a directory (`openLocal`) or
 * connected to a hub (`connect`). A file is named by a catalog name (`notes.txt`), a version of one (`notes.txt@3`), or its root:
 * 64 hexadecimal digits, or the first eight or more of them where no other root begins with them.
 */
import type { JobEvent } from "../runtime/contracts/events.ts";
import type { Editions } from "../runtime/contracts/executor.ts";
import type { AcceleratorInfo, Engine, UnusedAccelerator } from "../runtime/contracts/kernels.ts";
import type { LanesInfo } from "../runtime/contracts/lanes.ts";
import type { JobInfo, JobOutcome } from "../runtime/contracts/jobs.ts";
import type { GcResult as GcReport, StoreReport as VerifyReport } from "../runtime/contracts/maintenance.ts";
import type { CodeValue } from "../packets/code/state.ts";
import type { PacketCode } from "./code/builders.ts";
import type { JobArgs, JobValue } from "./program.ts";

export type { JobEvent } from "../runtime/contracts/events.ts";
export type { LaneInfo, LaneState, LaneUse, LanesInfo } from "../runtime/contracts/lanes.ts";
export type { JobInfo, JobStatistics } from "../runtime/contracts/jobs.ts";
export type { Engine, KernelReport } from "../runtime/contracts/kernels.ts";
export type { GcResult as GcReport, StoreReport as VerifyReport } from "../runtime/contracts/maintenance.ts";
export type { RepairEvent } from "../runtime/contracts/events.ts";
export type { WallState } from "../runtime/sandbox/process/wall-states.ts";

export interface PacketFS extends AsyncDisposable {
  /** Stores a file: the path of one, or bytes in any form. Durable when it resolves. */
  put(source: FileSource, options?: PutOptions): Promise<PutResult>;
  /**
   * The bytes of a file or a range of them, in order, verified. A file in a stored directory is named by its path behind the directory's
   * name. Rejects with PFS_NOT_FOUND.
   */
  get(file: string, options?: GetOptions): AsyncIterable<Uint8Array>;
  /**
   * Writes a file, or a range of it, to a path of this machine, verified and durable when it resolves. As cp does it: links are followed,
   * and what is there keeps its mode and owner; it is replaced when all bytes have come, and untouched when not. What it holds already,
   * or what an earlier try has written that was killed or lost its connection, does not come again. Rejects with PFS_NOT_FOUND, and PFS_FILE_FAILED,
   * PFS_FILE_NOT_FOUND or PFS_USAGE where nothing can be written there.
   */
  getFile(file: string, path: string, options?: GetFileOptions): Promise<GetFileResult>;
  /**
   * What `put` of this path, or `getFile` to it, would move, without doing it: estimated by some of it where it is much. Reject as these
   * do.
   */
  costOfPut(path: string, options?: Pick<PutOptions, "name" | "signal">): Promise<TransferCost>;
  costOfGet(
    file: string,
    path: string,
    options?: Pick<GetFileOptions, "name" | "signal">,
  ): Promise<TransferCost>;
  /** Rejects with PFS_NOT_FOUND. */
  stat(file: string): Promise<FileInfo>;
  /** The versions of a name that are still kept, the latest first. Rejects with PFS_NOT_FOUND. */
  history(name: string): Promise<FileInfo[]>;
  /** Names that begin with `prefix`, in byte order. */
  list(options?: { readonly prefix?: string }): AsyncIterable<FileInfo>;
  /**
   * What the streams with these roots yield: a file, or a directory; undefined where one cannot be read. Takes one read of chunks
   * for all of them.
   */
  kinds(roots: readonly string[]): Promise<(FileKind | undefined)[]>;
  /**
   * Stores a directory and all below it as one file, durable when it resolves. Files that did not change since the directory was
   * stored from this machine last are not read again. Rejects with PFS_FILE_NOT_FOUND, PFS_FILE_FAILED {path, system},
   * PFS_INPUT_CHANGED {path, reason} for what changes each time it is read, PFS_PATTERN_INVALID, or PFS_TREE_INVALID for more than a
   * tree may have.
   */
  putTree(path: string, options?: PutTreeOptions): Promise<PutTreeResult>;
  /**
   * Makes a stored directory equal to one of this machine: its next version, unless nothing differs. A file is the same where its
   * length and time of modification are. Rejects as `putTree` does, and with PFS_NOT_A_TREE where the name is a file's.
   */
  syncTree(path: string, name: string, options?: SyncTreeOptions): Promise<SyncTreeResult>;
  /**
   * A stored directory, or a path in one behind its name: "photos", "photos@2", "photos/2024/a.jpg". Rejects with PFS_NOT_FOUND,
   * PFS_NOT_A_TREE {file}, or PFS_TREE_INVALID.
   */
  openTree(file: string, options?: { readonly signal?: AbortSignal }): Promise<Tree>;
  /** Removes a name; its bytes go with the next gc. Rejects with PFS_NOT_FOUND. */
  remove(name: string): Promise<void>;
  /** The file's stream chunks, the top one first, each followed by those it calls. */
  packets(file: string): AsyncIterable<StreamPart>;
  /**
   * Runs a program over files: one job. Rejects with the first fault when a packet fails for good. Told the program's
   * type, it knows what `args` has to be and what `value` is:
   *
   *   import type longestLine from "./longest-line.ts";
   *   const { value } = await pfs.run<typeof longestLine>({ path: "longest-line.ts" }, ["book.txt"]); // number | null, or undefined
   */
  run<Value extends CodeValue>(
    code: PacketCode<Value>,
    files: readonly string[],
    options?: RunOptions,
  ): Promise<JobResult<Value>>;
  run<Program = unknown>(
    program: ProgramSource,
    files: readonly string[],
    options?: RunOptions<JobArgs<Program>>,
  ): Promise<JobResult<JobValue<Program>>>;
  /** Loads a program into lanes that stay, for code that makes its EXEC packets itself. */
  load(program: ProgramSource, options?: LoadOptions): Promise<LoadedProgram>;
  nodes(): Promise<NodeInfo[]>;
  /**
   * The lanes that programs are loaded in, and what their packets took: those of this process, or of a hub and its nodes, of each
   * the ones that run packets first, then those that used most CPU time.
   */
  lanes(options?: LanesOptions): Promise<MachineLanes[]>;
  /** A node that is barred gets packets again; it is named by its id or label. Rejects with PFS_NOT_FOUND. */
  allow(node: string): Promise<void>;
  jobs(): Promise<JobInfo[]>;
  /** Rejects with PFS_NOT_FOUND when no such job is running. */
  cancel(job: string): Promise<void>;
  /** Reads every chunk that is stored and checks it; mends what can be mended. */
  verify(options?: MaintenanceOptions): Promise<VerifyReport>;
  /** Frees the space of chunks that no name needs. Files that are damaged do not keep it from that; it says which they are. */
  gc(options?: MaintenanceOptions): Promise<GcReport>;
  close(): Promise<void>;
}

/**
 * What a job gives. It can be iterated over, however much it is: groups one [key, value] after the other, the elements of a list,
 * a value by itself, bytes in pieces. What is iterated over is read as it is needed, where it is in a file. Iterating
 * rejects as reading that file does, and with PFS_USAGE where the result was stored as CSV or as a value.
 */
export interface JobResult<Value = unknown> extends JobOutcome<Value>, AsyncIterable<JobPart<Value>> {}

/** One part of a job's value. */
export type JobPart<Value> = NonNullable<Value> extends readonly (infer Element)[] ? Element : Value;

export interface MaintenanceOptions {
  readonly signal?: AbortSignal;
  /**
   * Milliseconds that a hub waits for its nodes, when its own store is done; those that take longer are among the
   * `unreachable`. A day at most; by default it waits as long as they say that they are at work.
   */
  readonly nodesMs?: number;
}

export type FileSource = { readonly path: string } | Uint8Array | AsyncIterable<Uint8Array>;

/** A module's path, its source text, or one that `bundleProgram` made. */
export type ModuleSource = { readonly path: string } | { readonly source: string } | ProgramBundle;

/** What runs: a module, or packet code, which `code` has builders of. */
export type ProgramSource = ModuleSource | PacketCode;

export interface ProgramBundle {
  /** For people: the file's base name. */
  readonly name: string;
  /** The body of a function that evaluates it, UTF-8: see bundle.ts. */
  readonly code: Uint8Array;
  /** JSON: which line of which file each line of the code comes from. It stays with the caller. */
  readonly sourceMap?: string;
}

export interface PutOptions {
  /** Without one the file is stored under no name, and the next gc frees it. */
  readonly name?: string;
  readonly signal?: AbortSignal;
  /**
   * Called with the bytes taken in so far. Of a file that goes to a hub or node that is the mean of what was read and what is there; `step`
   * is what is being done.
   */
  readonly onProgress?: (bytes: number, step?: ProgressStep) => void;
}

/** What is being done with a whole file, of several things one after the other. */
export interface ProgressStep {
  readonly doing: "reading" | "sending" | "receiving";
  /** Of the file, with which this is done. */
  readonly bytes: number;
  /** What the machine is called that it goes to or comes from. */
  readonly peer?: string;
}

export interface PutResult {
  readonly name?: string;
  readonly root: string;
  /** Bytes of the file. */
  readonly length: number;
  readonly packets: number;
  readonly chunks: number;
  /** What was not there yet: chunks (streams included), their bytes, and the bytes that they took at rest or on the wire. */
  readonly newChunks: number;
  readonly newBytes: number;
  readonly storedBytes: number;
  /** How it went to a hub or node, where it went as a whole file. `packets` and `chunks` are 0 then of one that had not changed. */
  readonly transfer?: TransferInfo;
}

/** What bringing a file to or from another machine cost, and what made it less. */
export interface TransferInfo {
  /** What the machine is called that it went to or came from. */
  readonly peer: string;
  /** Whether its bytes were encrypted on the way: `bulk` says so. */
  readonly encrypted: boolean;
  /** Bytes on the wire of this file's messages. */
  readonly wireBytes: { readonly sent: number; readonly received: number };
  /** Chunks that were there already, came as what changed of others, and came compressed. */
  readonly chunks: { readonly reused?: number; readonly patched: number; readonly compressed: number };
  /** Bytes of the file for each on the wire. */
  readonly ratio: number;
}

/** What bringing a file there or here would cost. */
export interface TransferCost {
  readonly root: string;
  /** Bytes of the file. */
  readonly length: number;
  /** Those of its chunks and streams that are lacking where it is to be. */
  readonly newBytes: number;
  /** Bytes of its messages; none within one machine. */
  readonly wireBytes: { readonly sent: number; readonly received: number };
  /** Whether that was found out of all of it, and not of a sample. */
  readonly exact: boolean;
}

export interface GetOptions {
  /** Bytes `start` to `end`, the end not included. */
  readonly range?: { readonly start: number; readonly end?: number };
  readonly signal?: AbortSignal;
  /**
   * Paths of files on this machine that may hold some of it: an older copy, or the beginning of an earlier try. What is
   * found in them, by its hash, is not fetched from a hub or node.
   */
  readonly reuse?: readonly string[];
}

export interface GetFileOptions extends Omit<GetOptions, "reuse"> {
  /** What a file is stored as that is asked for by its root: other versions of it, which may be here, are what it is like. */
  readonly name?: string;
  /** Told of bytes that are there, of all that will be. */
  readonly onProgress?: (bytes: number, total: number, step?: ProgressStep) => void;
  /**
   * Has what came of a whole file, if it is much, stay beside the path when the signal ends the call, for the next one, and is told of its
   * bytes. Without it that is so only where the connection is lost.
   */
  readonly onLeft?: (bytes: number, total: number) => void;
}

export interface GetFileResult {
  /** Of the whole file. */
  readonly root: string;
  readonly path: string;
  /** Bytes of the file that is there now, or of the range. */
  readonly length: number;
  /** The file that was there had these bytes already: nothing was written, and its times are what they were. */
  readonly unchanged?: true;
  /** How it came from a hub or node, where it came as a whole file. */
  readonly transfer?: TransferInfo;
}

export type FileKind = "file" | "tree";

/**
 * One rule of a filter: the first that fits a path decides, and what none fits is taken. Patterns are those of .gitignore: `*.o` fits a
 * name at any depth, `/build` one in the directory itself, `docs/*.md` a path from there on, `tmp/` directories alone; `**` goes through any number of
 * directories. What is below a directory that is left out is left out.
 */
export interface TreeRule {
  readonly kind: "include" | "exclude";
  readonly pattern: string;
}

export interface PutTreeOptions {
  /** Without one the directory is stored under no name, and the next gc frees it. */
  readonly name?: string;
  readonly filter?: readonly TreeRule[];
  /** Reads every file, also those that did not change by their times. Default false. */
  readonly checksum?: boolean;
  /** Leaves out what cannot be read, instead of failing. Default false. */
  readonly skipsUnreadable?: boolean;
  readonly signal?: AbortSignal;
  /** Called with the bytes of files taken in so far, and those that there are. */
  readonly onProgress?: (bytes: number, total: number) => void;
  /** Hears of what is left out since it cannot be read, or is no file, directory or link. */
  readonly onSkipped?: (path: string, reason: string) => void;
}

export interface PutTreeResult extends PutResult {
  /** Files, directories and links, the directory itself among them. */
  readonly entries: number;
  /** Files that were read: those that are new or changed. */
  readonly readFiles: number;
}

export interface SyncTreeOptions extends Omit<PutTreeOptions, "name"> {
  /** What is not in the directory any more goes, unless the filter leaves it out. Default false: it stays. */
  readonly deletes?: boolean;
  /** Says what would change, and changes nothing. Default false. */
  readonly dryRun?: boolean;
}

export interface SyncTreeResult {
  readonly root: string;
  readonly length: number;
  /** Of the name, afterwards; 0 where a dry run would make its first one. */
  readonly version: number;
  readonly changes: readonly TreeDifference[];
  /** How it went to a hub or node, where it went as a whole. */
  readonly transfer?: TransferInfo;
}

/** What happened to one path. */
export interface TreeDifference {
  /** "mode" and "time" are of paths that are the same otherwise. */
  readonly change: "added" | "removed" | "changed" | "mode" | "time";
  readonly path: string;
  readonly type: TreeEntryInfo["type"];
}

/** A file, directory or link in a stored directory. */
export interface TreeEntryInfo {
  /** From the directory that was opened on; "" for that itself. Bytes that are no UTF-8 are shown as U+FFFD. */
  readonly path: string;
  /** The path as it is, in bytes. */
  readonly pathBytes: Uint8Array;
  readonly type: "file" | "directory" | "symlink";
  /** Permissions, setuid, setgid and sticky; 0 for symbolic links. */
  readonly mode: number;
  /** Milliseconds since 1970, to the microsecond. */
  readonly mtimeMs: number;
  /** Bytes of a file. */
  readonly length: number;
  /** What a symbolic link points to. */
  readonly target?: string;
  /** The path of the file that this one is another name of. */
  readonly linkTo?: string;
}

/** A path in a stored directory, most of the time all of it. What it reads is what was found when it was opened. */
export interface Tree {
  /** What is stored. */
  readonly info: FileInfo;
  /** Where in that this is; "" for all of it. */
  readonly path: string;
  /** Everything in it and below it, itself first, in the order of the bytes of the names. */
  entries(): Iterable<TreeEntryInfo>;
  /** What is at a path, this one unless given; undefined where nothing is. */
  entry(path?: string): TreeEntryInfo | undefined;
  /** The bytes of the file at a path, this one unless given. Rejects with PFS_NOT_FOUND for what is no file. */
  read(path?: string, options?: Pick<GetOptions, "range" | "signal">): AsyncIterable<Uint8Array>;
  /**
   * Writes the directory and all below it into one of this machine, which is made if it is not there. Nothing is ever written outside
   * of that, and no symbolic link is followed; a file is replaced when its bytes are there; what is as it should be (by length and time)
   * stays, so a write that was interrupted goes on. Rejects with PFS_TARGET_BLOCKED {path, reason} and PFS_FILE_FAILED {path, system}.
   */
  write(directory: string, options?: WriteTreeOptions): Promise<WriteTreeResult>;
  /** What differs in `after`, which may be another version or another directory. */
  diff(after: Tree, options?: { readonly signal?: AbortSignal }): AsyncIterable<TreeDifference>;
}

export interface WriteTreeOptions {
  readonly filter?: readonly TreeRule[];
  /**
   * The directory becomes equal: what is in the way of a file is replaced, and the directory's own mode and time are set. Otherwise what is
   * written joins what is there. Default false.
   */
  readonly sync?: boolean;
  /** With `sync`, what is not in the stored directory is removed, unless the filter leaves it out. Default false. */
  readonly deletes?: boolean;
  /** Compares the bytes of files that are there, whatever their times say. Default false. */
  readonly checksum?: boolean;
  /** Says what would change, and changes nothing. Default false. */
  readonly dryRun?: boolean;
  /** Keeps setuid and setgid bits. Default false. */
  readonly keepsPrivileges?: boolean;
  /** Leaves out symbolic links that lead out of the directory. Default false: they are made, and never followed. */
  readonly safeLinks?: boolean;
  readonly signal?: AbortSignal;
  /** Called with the bytes written so far, and those to be written. */
  readonly onProgress?: (bytes: number, total: number) => void;
}

export interface WriteTreeResult {
  /** Files whose bytes were written, and those. */
  readonly files: number;
  readonly bytes: number;
  /** Files, directories and links that the stored directory has. */
  readonly entries: number;
  readonly changes: readonly TreeDifference[];
  /** Symbolic links that were left out. */
  readonly unsafeLinks: readonly string[];
  /** How it came from a hub or node, where it came as a whole. */
  readonly transfer?: TransferInfo;
}

export interface FileInfo {
  readonly name: string;
  readonly root: string;
  readonly length: number;
  readonly version: number;
  readonly storedAt: number;
}

export interface StreamPart {
  readonly ref: string;
  /** 0 for the file's own stream. */
  readonly depth: number;
  /** Where the part's output begins in the file. */
  readonly at: number;
  /** The packets, HALT included. */
  readonly frame: Uint8Array;
}

export interface RunOptions<Args = unknown> {
  /** JSON value that the program's functions get. */
  readonly args?: Args;
  /**
   * Stored files that the program has beside those that it reads, by the names that it knows them by: its `context.files`.
   * At most 16. Rejects with PFS_NOT_FOUND, or with PFS_USAGE for what is no name of a property.
   */
  readonly files?: Readonly<Record<string, string>>;
  /**
   * What computes the program's kernels; by default what is expected to be faster, as far as there is a choice. Packet code that
   * a GPU cannot run, or does not, is run by threads all the same.
   */
  readonly engine?: Engine | "auto";
  /**
   * Stores the result under this name instead of returning it. Groups are stored as lines [key,value] of JSON, or as CSV
   * where the name ends with ".csv".
   */
  readonly out?: string;
  /** Bytes of input per EXEC packet; the default follows from the input and the program, never from who is there to work. */
  readonly splitBytes?: number;
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: JobEvent) => void;
}

export interface LoadOptions extends Pick<RunOptions, "files" | "engine"> {
  readonly args?: unknown;
  readonly signal?: AbortSignal;
}

/**
 * A program in lanes: on every node that has room, from its first packet on until it is closed. Where its results depend on the engine
 * that computes its kernels, or a GPU is asked for, all of its packets run on one class of it, GPU, driver and all: which one is chosen
 * by what the first packet is found to call, as for a job, unless `engine` says it. When that class is lost nothing goes on elsewhere,
 * since answers were given that are its own: packets are answered by FAULT packets of PFS_ENGINE_LOST, or, once no machine has
 * lent it for two minutes, `exec` rejects with PFS_NO_EXECUTOR. Loaded again, the program runs on what is there then.
 */
export interface LoadedProgram extends AsyncDisposable {
  /**
   * Executes EXEC packets (n × 64 bytes) and resolves with n RETURN or FAULT packets, the i-th for the i-th. Calls may
   * overlap. `lane` and `at` of what is given are not looked at.
   */
  exec(frame: Uint8Array): Promise<Uint8Array>;
  /**
   * The same for a stream of frames, of any number of packets: gives the answers to each frame, in the order in which the
   * frames were given, as soon as those before it are read. At most 65,536 packets are taken that are not read yet, so memory
   * stays flat however long the stream is; small frames that come at once are executed together. A frame must not change
   * before its answers are there. Behind a frame that is refused, and where the frames' source fails, iterating rejects with
   * that, and with the signal's reason at once. Who stops reading ends it: what is in flight is dropped.
   */
  exec(frames: FrameSource, options?: ExecStreamOptions): AsyncGenerator<Uint8Array, void, undefined>;
  close(): Promise<void>;
}

/** Frames of EXEC packets, n × 64 bytes each. */
export type FrameSource = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

export interface ExecStreamOptions {
  readonly signal?: AbortSignal;
  /**
   * How many packets may be executed before their answers are read, where that is to be more: the answers that are too many
   * for memory are kept in the store as chunks without a name, which the next gc after the stream frees.
   */
  readonly aheadPackets?: number;
}

export interface LanesOptions {
  /** Lanes of each machine, at most 1,024; 100 unless given. */
  readonly limit?: number;
}

/** Of one machine: `open` lanes, some of them, and what all packets took since it was started. */
export interface MachineLanes extends LanesInfo {
  readonly id: string;
  readonly label: string;
}

export interface NodeInfo {
  readonly id: string;
  readonly label: string;
  readonly role: "hub" | "node" | "local";
  /** HOST:PORT where peers reach it, if it listens. */
  readonly address?: string;
  /** Packets with large inputs that it works on at once. */
  readonly workers: number;
  /**
   * By kind of program, "js", "kernel" or "code": of the engine that runs it and of what is around it. A job runs on one edition, so
   * others get no packets of it.
   */
  readonly editions: Editions;
  /** GPUs that kernels run on there, once they were looked for, */
  readonly accelerators: readonly AcceleratorInfo[];
  /** and those that they do not run on, or why there are none, where it says so. */
  readonly unusedAccelerators?: readonly UnusedAccelerator[];
  /** What stands between programs and the machine that they run on, once it is known; SECURITY.md says what each wall is. */
  readonly walls?: readonly string[];
  /**
   * Packets that it has, and has finished since it came; those that clients send it themselves are among them where it says so.
   */
  readonly inFlight: number;
  readonly done: number;
  readonly lastSeenMs: number;
  /** Lanes that it has open, and what all packets took since it was started, where it says so. */
  readonly lanes?: Pick<LanesInfo, "open" | "use">;
  /** Kinds of program ("js") of which it gets no packets because it got too many wrong that others got right, and what. */
  readonly barred: readonly { readonly kind: string; readonly reason: string }[];
}
