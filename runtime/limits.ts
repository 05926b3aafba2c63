/** Every limit and default of one machine on one page, the unit last in the name. */
import type { KernelLimits } from "./program/kernel/kernel.ts";
import type { ProgramLimits } from "./program/program.ts";

// ── event loop ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** What is computed in one turn of the event loop, before messages and timers are looked at again. */
export const TURN_WORK_MS = 1;
/** Packets or rows that are looked at between two questions whether the turn is over. */
export const TURN_STEP_PACKETS = 64;

// ── store ────────────────────────────────────────────────────────────────────────────────────────────────────────
/** A segment is closed when the next record would make it longer. */
export const SEGMENT_BYTES_MAX: number = 256 * 1024 * 1024;
/** On small disks that is earlier: at so much of the disk, but not before so many bytes. */
export const SEGMENT_DISK_SHARE = 128;
export const SEGMENT_BYTES_MIN: number = 1024 * 1024;
/** What a store keeps free for removing and collecting: as much as its segments take, between these, */
export const RESERVE_BYTES_MIN: number = 128 * 1024;
export const RESERVE_BYTES_MAX: number = 8 * 1024 * 1024;
/** and at most so much of the disk. */
export const RESERVE_DISK_SHARE = 8;
/** Bytes of chunks in one call to a store's `write`. */
export const WRITE_BLOCK_BYTES_MAX: number = 64 * 1024 * 1024;
/** So few bytes are written to a file, or read from one, without another thread: handing it over would take longer. */
export const WRITE_HERE_BYTES_MAX: number = 128 * 1024;
export const READ_HERE_BYTES_MAX: number = 64 * 1024;
/** Unless the disk had to be waited for: then so many of the next reads go to other threads, and this one goes on meanwhile. */
export const READ_HERE_MS_MAX = 1;
export const READS_ASIDE = 64;
/** Bytes of the chunks of a file that is stored with its name in one step. */
export const PUT_WHOLE_BYTES_MAX: number = 64 * 1024;
/** So much is written, or so many records, before what is there is made durable without anybody having asked. */
export const COMMIT_BYTES: number = 64 * 1024 * 1024;
export const COMMIT_RECORDS = 8192;
/** A writer waits for the disk when so many of those have piled up. */
export const COMMITS_BEHIND_MAX = 4;
/** Records that stand near each other are read at once, up to so many bytes, */
export const READ_RUN_BYTES_MAX: number = 1024 * 1024;
/** over gaps of at most so many; and the memory of so many such reads is used again. */
export const READ_GAP_BYTES_MAX: number = 16 * 1024;
export const READ_RUNS_SPARE_MAX = 8;
/** Reads of at least so many bytes are done by threads of their own, once so many bytes were read so: starting them takes as long. */
export const READ_ASIDE_BYTES_MIN: number = 1024 * 1024;
export const READ_ASIDE_BYTES_BEFORE: number = 16 * 1024 * 1024;
/** Threads that do one kind of work: as many as there are cores, but no more than these; and when they end that have nothing to do. */
export const POOL_THREADS_MAX = 4;
export const POOL_THREADS_IDLE_MS = 5_000;
/** Segments that a process keeps open for reading. */
export const SEGMENTS_OPEN_MAX = 64;
/** A second writer waits so long for the first one to end. */
export const LOCK_WAIT_MS = 5000;
/**
 * How long a reader that found the index damaged waits until it is built again. Building that of terabytes takes minutes; a
 * writer that ended without an answer must not hold up its process.
 */
export const REPAIR_WAIT_MS: number = 30 * 60 * 1000;
/** Records that no transaction covers are at most those of a few commits and one step of gc; more means an old index. */
export const UNCOMMITTED_BYTES_MAX: number = 4 * SEGMENT_BYTES_MAX;
/** Versions of a name that stay readable, the latest included. */
export const NAME_VERSIONS_MAX = 10;
/** Names that one read of the catalog fetches. */
export const CATALOG_PAGE_NAMES = 256;
/** Rows that one step of gc looks at, */
export const INDEX_PAGE_ROWS = 4096;
/** and one of verify, whose thread answers others in between. */
export const VERIFY_PAGE_ROWS = 512;
/** A segment is rewritten by gc when at least this share of it is of no use, */
export const GC_DEAD_SHARE_MIN = 0.05;
/** or any of it when the segment has at most so many bytes. */
export const GC_SMALL_SEGMENT_BYTES: number = 16 * 1024 * 1024;
/** What stays free while a gc copies what is left of a whole segment; where less would, it does so piece by piece. */
export const GC_FREE_BYTES_MIN: number = 4 * 1024 * 1024;
/** What gc keeps beside the bytes of a file of which a stream is lost: of what was written before, nobody knows whose it is. */
export const GC_UNKNOWN_BYTES: number = 16 * 1024 * 1024;
/** Chunks that a writer found present and thereby protects; beyond it gc frees nothing while the writer is open. */
export const WRITER_REFS_MAX: number = 4 * 1024 * 1024;
/** What ingest hands to a store at once, */
export const INGEST_BLOCK_BYTES: number = 4 * 1024 * 1024;
/** and how many of these it has handed over without having got their refs back. */
export const INGEST_BLOCKS_MAX = 4;
/** What is hashed before a thread is begun for more of it. */
export const HASH_ASIDE_BYTES: number = 16 * 1024 * 1024;
/** A file outside of any store that is used as a stored one: the places of its chunks take a five-hundredth of that in memory. */
export const HELD_FILE_BYTES_MAX: number = 64 * 1024 * 1024 * 1024;
/** Neighbouring chunks of such a file are read at once, up to so many bytes. */
export const HELD_READ_BYTES: number = 4 * 1024 * 1024;
/** What a file is read in where it is not read into such blocks. */
export const FILE_READ_BYTES: number = 1024 * 1024;
/**
 * How long a file must have been left alone before it was read, to be taken for unchanged by its times later: the clocks of file
 * systems are as coarse as that.
 */
export const FILE_SETTLED_MS = 2_000;
/** Where they tell less than a millisecond, their clocks go on at least so often. */
export const FILE_TICK_MS = 20;
/** How long a device that has nothing to read yet is left alone. */
export const DEVICE_RETRY_MS = 20;

// ── stream ──────────────────────────────────────────────────────────────────────────────────────────────────────
/** Bytes that are read at once, in a batch; and batches that are being read while the one before them is being yielded. */
export const READ_AHEAD_BYTES: number = 4 * 1024 * 1024;
export const READ_AHEAD_BATCHES = 2;
/** Chunks in one batch of them: little may be wanted of each, but each is read whole. */
export const READ_AHEAD_CHUNKS = 64;
/** Packets in one batch. */
export const READ_AHEAD_PACKETS = 4096;
/** Smaller pieces are yielded together, */
export const PIECE_BYTES_MIN: number = 4 * 1024;
/** in buffers of so many bytes. */
export const PIECE_BUFFER_BYTES: number = 64 * 1024;
/** What a FILL yields at once. */
export const FILL_BLOCK_BYTES: number = 256 * 1024;
/** Sub-streams that an execution keeps parsed: one per level of the CALL tree, and some that are called again. */
export const STREAMS_CACHED = 32;
/** Stream chunks that a walk reads at once. */
export const WALK_STREAMS = 16;
/** Stream chunks that stay in memory where several walks follow each other. */
export const WALK_CACHE_BYTES: number = 4 * 1024 * 1024;
/** Refs in one batch of a walk. */
export const WALK_REFS = 4096;

// ── tree ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Bytes of files of a directory that are read at once, ahead of what is cut into chunks. */
export const TREE_READ_BYTES: number = 4 * 1024 * 1024;
/** How often a file that changes while it is read is read again before that is told. */
export const TREE_READ_TRIES = 3;
/** Directories of which is remembered which of their files were stored, and as what. */
export const TREE_INDEXES_MAX = 64;
/** Bytes between two ranges of a tree that are read with them, since they stand in the same chunks mostly. */
export const TREE_GAP_BYTES_MAX: number = 256 * 1024;
/** A row of so many zeros is left out where a file of a directory is written: it becomes a hole. */
export const TREE_HOLE_BYTES: number = 64 * 1024;
/** Large files of a directory that are written beside each other. */
export const TREE_FILES_AT_ONCE = 3;
/** Bytes of two files that are compared at once. */
export const TREE_COMPARE_BYTES: number = 1024 * 1024;

// ── patches ─────────────────────────────────────────────────────────────────────────────────────────────────────
/** Refs that are compared without reading them again, of each of two trees: those of some 64 GiB. */
export const PATCH_REFS_MAX: number = 1024 * 1024;
/** How far ahead of a place in the new bytes the old ones' refs are read. */
export const PATCH_AHEAD_BYTES: number = 16 * 1024 * 1024 * 1024;
/** Old chunks that stay in memory, since neighbouring parts are written against them; the same again of new ones. */
export const PATCH_CACHE_BYTES: number = 8 * 1024 * 1024;
/** What is lacking is told in units of about so many chunks or streams, whichever comes first. */
export const PATCH_UNIT_CHUNKS = 512;
export const PATCH_UNIT_STREAMS = 8;
/** Neighbouring chunks are written together up to so many bytes, of which more is slower, and finds less; and so many of them. */
export const PATCH_PART_BYTES: number = 256 * 1024;
export const PATCH_PART_CHUNKS_MAX = 16;
/** Old bytes on each side of where a part is expected: where nothing moved beside it, where something did, */
export const PATCH_PAD_BYTES: number = 32 * 1024;
export const PATCH_WIDE_PAD_BYTES: number = 64 * 1024;
/** and around what is alike. */
export const PATCH_ALIKE_PAD_BYTES: number = 64 * 1024;
/** Chunks that both have say where what is between them is, up to so many bytes of it. */
export const PATCH_GAP_BYTES_MAX: number = 64 * 1024 * 1024;
/** Parts that are written at once: a buffer of old bytes and one of new ones each. */
export const PATCH_PARTS_AT_ONCE = 4;
/** Threads write them once a process has had so many bytes of them, and wait so long for more, since what they run has to be compiled anew. */
export const PART_THREADS_BYTES_BEFORE: number = 4 * 1024 * 1024;
export const PART_THREADS_IDLE_MS = 60_000;
/** With fewer cores, those that read, send and receive are as busy: threads cost up to a fifth more time there, and save little. */
export const PART_THREADS_CORES_MIN = 4;
/** Memory for parts comes in whole steps, and so many bytes of it are kept when nobody needs them. */
export const PART_MEMORY_STEP_BYTES: number = 256 * 1024;
export const PART_MEMORY_BYTES_MAX: number = 8 * 1024 * 1024;
/** Bytes of chunks in one patch. */
export const PATCH_MESSAGE_BYTES: number = 4 * 1024 * 1024;
/** Old bytes among which those are looked for that are like new ones, */
export const ALIKE_BYTES_MAX: number = 4 * 1024 * 1024 * 1024;
/** places that are remembered of them, 8 bytes each, and as many free ones, */
export const ALIKE_PLACES_MAX: number = 1024 * 1024;
/** what of them is looked through at once for a few new ones, */
export const ALIKE_CHEAP_BYTES: number = 256 * 1024 * 1024;
/** and how many more for each new byte whose place nothing else tells. */
export const ALIKE_BYTES_PER_BYTE = 32;
/** Parts that a quick estimate writes. */
export const ESTIMATE_PARTS = 64;

// ── sandbox ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a program gets when it asks for nothing else, per packet. Time is CPU time of the thread that it runs on. */
export const PROGRAM_LIMITS_DEFAULT: ProgramLimits = {
  timeMs: 10_000,
  memoryBytes: 256 * 1024 * 1024,
  outputBytes: 64 * 1024 * 1024,
  logBytes: 16 * 1024,
};
/** The least and the most that a program may ask for. An isolate needs some memory for itself. */
export const PROGRAM_LIMITS_MIN: ProgramLimits = {
  timeMs: 1,
  memoryBytes: 16 * 1024 * 1024,
  outputBytes: 1,
  logBytes: 0,
};
/** A packet's calls of kernels may take so many times its limit of CPU time of a GPU's own time, all together. */
export const PACKET_GPU_TIMES = 4;
export const PROGRAM_LIMITS_MAX: ProgramLimits = {
  timeMs: 10 * 60 * 1000,
  memoryBytes: 2 * 1024 * 1024 * 1024,
  outputBytes: 256 * 1024 * 1024,
  logBytes: 1024 * 1024,
};
/** Threads that a machine lends to programs. */
export const WORKERS_MAX = 1024;
/** A program's module, as text. */
export const PROGRAM_CODE_BYTES_MAX: number = 8 * 1024 * 1024;
/** The memory of a WebAssembly module: so much of its program's, */
export const WASM_MEMORY_SHARE = 2;
/** and the elements of one of its tables. */
export const WASM_TABLE_ELEMENTS_MAX = 100_000;
/** Kernels that a program defines. */
export const KERNELS_MAX = 64;
/** Bytes that one call of a kernel is given which are no blocks, */
export const KERNEL_VALUES_BYTES_MAX: number = 64 * 1024 * 1024;
/** the text that says which call it is, */
export const KERNEL_QUESTION_BYTES_MAX: number = 64 * 1024;
/** and what passes between an isolate and its thread at once of these and of what comes back. */
export const KERNEL_EXCHANGE_BYTES: number = 1024 * 1024;
/**
 * CPU time that each question of a program counts as its own, in milliseconds: about what its node has to do for it. Without, one that
 * only asks would have its node work without an end.
 */
export const QUESTION_CPU_MS = 0.1;
/** Bytes of a block that are read into shared memory at once, for a program that looks at them. */
export const BLOCK_READ_BYTES_MAX: number = 16 * 1024 * 1024;
/** A record of a matrix, a block or rows that come many at once; a row of such a matrix has ROW_BYTES_MAX. */
export const BLOCK_RECORD_BYTES_MAX: number = 64 * 1024 * 1024;
/** What it is bundled from: its own files and those that it imports, of which the bundle has less. */
export const PROGRAM_SOURCE_BYTES_MAX: number = 16 * 1024 * 1024;
/** The JSON text of a program's arguments: they stand in its manifest, which is a chunk, beside what it declares. */
export const PROGRAM_ARGS_BYTES_MAX = 1_000_000;
/** Arrays and objects within each other in them. */
export const PROGRAM_ARGS_DEPTH_MAX = 500;
/** Files that a program has beside what it reads. */
export const PROGRAM_FILES_MAX = 16;
/** What an executor process may answer when it looks into a program, and when it loads one: the reason why it does not load. */
export const PROGRAM_DESCRIPTION_BYTES_MAX: number = 1024 * 1024;
export const LOAD_ANSWER_BYTES_MAX: number = 64 * 1024;
/** CPU time that a program's module may take to evaluate, unless the caller says otherwise. */
export const PROGRAM_LOAD_TIME_MS = 2_000;
/** Columns of a reader, and UTF-16 units of a column's name. */
export const READER_COLUMNS_MAX = 1_024;
export const READER_COLUMN_NAME_MAX = 256;
/** The text of a fault, UTF-8. */
export const FAULT_TEXT_BYTES_MAX = 2_048;
/** A frame whose results or logs reach this many bytes ends early; the packets that are left run in another. */
export const FRAME_OUTPUT_BYTES: number = 16 * 1024 * 1024;
export const FRAME_LOG_BYTES: number = 1024 * 1024;
/** Threads of one executor process. */
export const EXECUTOR_THREADS_MAX = 64;
/** Programs that a thread keeps isolates for; the one used least recently goes first. */
export const THREAD_ISOLATES_MAX = 8;
/** Calls of one executor process that wait for their turn. */
export const EXECUTOR_QUEUE_MAX = 4_096;
/** How long a process may take to start. Only as a backstop: a machine that is busy, or was suspended, starts it slowly. */
export const EXECUTOR_START_MS = 150_000;
/** How often one is started that did not come to be ready, before that is told. */
export const EXECUTOR_STARTS_MAX = 3;
/** Threads and processes that an executor may have: of Node, V8 and isolated-vm, some of them for each processor. */
export const EXECUTOR_TASKS_BASE = 64;
export const EXECUTOR_TASKS_PER_THREAD = 4;
/** Descriptors that it may have open. */
export const EXECUTOR_DESCRIPTORS_BASE = 128;
export const EXECUTOR_DESCRIPTORS_PER_THREAD = 16;
/** CPU time of its thread that a frame may take beside its program's: reading its inputs, taking over what it yielded. */
export const EXECUTOR_GRACE_MS = 250;
/**
 * Wall-clock time after which a call of an executor process is given up although it used little CPU: so many times what it
 * may use of that, but at least so long.
 */
export const WALL_CEILING_TIMES = 10;
export const WALL_CEILING_MS_MIN = 30_000;
/** A call that seems late has this long for an answer that has come meanwhile and was not read yet. */
export const EXECUTOR_READ_ON_MS = 25;
/** How often the memory of an executor process is looked at while it runs something, and while one that did is idle. */
export const EXECUTOR_RSS_POLL_MS = 20;
export const EXECUTOR_RSS_IDLE_POLL_MS = 1_000;
/**
 * CPU time of an executor process that the clocks of its threads do not tell, beyond so many times what they do tell: V8's own
 * helpers, which look for garbage and compile. With more it runs what it should not, and is ended.
 */
export const EXECUTOR_UNCOUNTED_TIMES = 4;
export const EXECUTOR_UNCOUNTED_MS_MAX = 20_000;
/** Looks at its memory between two at that. */
export const EXECUTOR_UNCOUNTED_LOOKS = 10;
/** What a process may say on stderr before it dies; only the end is kept. */
export const EXECUTOR_STDERR_BYTES = 4_096;
/** How long shared memory stays empty before its memory is given back. */
export const SHARED_MEMORY_IDLE_MS = 200;
/** How long a call waits for a thread of its process, before another thread is started for it. */
export const EXECUTOR_THREAD_DELAY_MS = 10;
/** How long after a spare process was taken the next one is started, unless there is work then, which it would slow. */
export const SPARE_DELAY_MS = 250;

// ── executor ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * A record of text, its line end or separator included, wherever the borders of splits fall. It is also what is read on
 * to finish the last record of a split.
 */
export const RECORD_BYTES_MAX: number = 16 * 1024 * 1024;
/** Records of a fixed size, and what records overlap. */
export const ROW_BYTES_MAX: number = 1024 * 1024;
/** What separates the records of `records`. */
export const RECORD_SEPARATOR_BYTES_MAX = 1024;
/** One read while looking for the end of a record. */
export const BORDER_STEP_BYTES: number = 64 * 1024;
/** Packets that a lane takes before it has answered them. */
export const LANE_PACKETS_MAX = 65_536;
/** Packets of one frame that goes to an executor process. */
export const RUN_PACKETS_MAX = 1024;
/** Input of one frame of several packets; a packet with a larger input goes alone. */
export const RUN_INPUT_BYTES_MAX: number = 256 * 1024;
/** Inputs of a frame up to this size travel with its packets; larger ones go through shared memory. */
export const CARRIED_INPUT_BYTES_MAX: number = 8 * 1024;
/** Inputs up to this size are gathered in memory, larger ones written to shared memory piece by piece. */
export const GATHER_BYTES_MAX: number = 64 * 1024;
/** CPU time that a frame should take: long enough to hide what sending it costs, short enough to find a stuck packet in. */
export const RUN_AIM_MS = 20;
/** Verified chunks that stay in memory for the inputs of packets to come. */
export const INPUT_CACHE_BYTES: number = 32 * 1024 * 1024;
/** What each of them counts for beside its bytes, */
export const CACHED_CHUNK_COST_BYTES = 512;
/** and how long an executor without lanes keeps them. */
export const INPUT_CACHE_IDLE_MS = 10_000;
/** Streams whose length and beginning are remembered. */
export const INPUT_STREAMS_MAX = 256;
/** One write of result chunks into the store. */
export const RESULT_BLOCK_BYTES: number = 4 * 1024 * 1024;
/** The whole sentence of a FAULT, UTF-8: the text of the fault and what it happened to. */
export const FAULT_MESSAGE_BYTES_MAX: number = 4 * 1024;
/** Memory that the inputs of one lane's packets in flight share. */
export const LANE_INPUT_BYTES: number = 256 * 1024 * 1024;
/** What an executor process may use beside its packets' memory: its threads, V8, and inputs and results on their way. */
export const EXECUTOR_BASE_BYTES: number = 128 * 1024 * 1024;
/** and so much more for each of its threads. */
export const EXECUTOR_THREAD_BYTES: number = 40 * 1024 * 1024;
/** Lanes that find room in the shared memory of one process: a program's map, merge and finish, and its scan before them. */
export const LANES_PER_PROCESS = 3;
/** How long the process that a program was looked into in waits for the program to be run. */
export const INSPECTED_KEPT_MS = 2_000;
/** How long the process of a program stays when its last lane is closed, for the next job of the same program, */
export const PROCESS_KEPT_MS = 5_000;
/** how many such processes a machine keeps, */
export const PROCESSES_KEPT_MAX = 4;
/** and how many entries of it, which no lane uses, one of them has loaded still. */
export const ENTRIES_KEPT: number = LANES_PER_PROCESS;
/** Processes of programs that a machine has at once; another program waits until one of them has nothing to do. */
export const PROCESSES_MAX = 64;
/** Lanes that have a runner of their own. Others of the same program share one, */
export const RUNNERS_MAX = 64;
/** in which each has so many packets at a time; */
export const SHARED_LANE_PACKETS_MAX = 64;
/** and who has had nothing to do for so long gives up its own for one that has. */
export const LANE_REST_MS = 1_000;
/** Programs of which a machine knows what they say of themselves. */
export const DESCRIPTIONS_KEPT_MAX = 256;
/** and how long the JSON text of one may be for that. */
export const DESCRIPTION_KEPT_CHARACTERS_MAX: number = 16 * 1024;
/** GPUs of one machine that are used, and that its drivers may name. */
export const ACCELERATORS_MAX = 8;
export const ADAPTERS_LISTED_MAX = 64;
export const ADAPTER_NAME_CHARACTERS_MAX = 256;
/** GB/s, or thousand million operations a second, that a GPU may say it was measured with. */
export const ACCELERATOR_RATE_MIN = 1e-6;
export const ACCELERATOR_RATE_MAX = 1e9;
/** Packets whose kernels run on one GPU that are worked on at once: while one waits for its answer, others get theirs ready. */
export const GPU_PACKETS_MAX = 4;
/** How long a driver may take to open a GPU, and again to measure it: a machine does without one whose driver does not come up. */
export const GPU_FIND_MS_MAX = 60_000;
/** For how long commands do without a GPU whose driver did not come up, and how long what was measured of one is believed. */
export const GPU_HANG_MS: number = 60 * 60 * 1000;
export const GPU_CALIBRATION_MS_MAX: number = 7 * 24 * 60 * 60 * 1000;
/** GPUs, by driver and all, of which it is remembered beside a store what was measured; and bytes of what is remembered. */
export const GPU_CALIBRATIONS_MAX = 32;
export const GPU_HISTORY_BYTES_MAX: number = 64 * 1024;
/** How often a call is made of a GPU whose process is lost meanwhile. */
export const ACCELERATOR_TRIES_MAX = 3;
/** Of the name of a class of engines, which stands in editions. */
export const ENGINE_CLASS_CHARACTERS_MAX = 27;
/** Executor processes that may end one after the other with nothing done in between; then the lane is lost. */
export const IDLE_DEATHS_MAX = 5;

// ── packet code ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** Ranges that are read where they lie have so many bytes. */
export const CODE_DIRECT_BYTES_MIN: number = 64 * 1024;
export const CODE_DIRECT_BYTES_MAX: number = 64 * 1024 * 1024;
/** What they are made of is remembered in so much memory: that of about 64 GiB of files whose chunks are as large as most. */
export const CODE_PLANS_BYTES: number = 100 * 1024 * 1024;
/** Chunks that are known to be what their refs say: about 32 GiB of them. */
export const CODE_VERIFIED_MAX: number = 512 * 1024;
/** Chunks that stand next to each other are read at once, up to so many bytes: what the program then looks at is in a core's cache. */
export const CODE_RUN_BYTES: number = 256 * 1024;
/** Behind a range of lines, where its last one goes on; files that have longer ones are known, so many of them. */
export const CODE_READ_ON_BYTES: number = 16 * 1024;
export const CODE_LONG_LINES_FILES_MAX = 1024;
/** Threads are started where so much has been read or is ahead: reading it takes about as long as their start, or twice as long. */
export const CODE_THREADS_BYTES: number = 96 * 1024 * 1024;
/** Bytes that a program of packet code has had when it is compiled, */
export const CODE_COMPILE_BYTES: number = 64 * 1024;
/** programs that are kept compiled, and of those the ones that each memory has at hand. */
export const CODE_MODULES_MAX = 1024;
export const CODE_INSTANCES_MAX = 64;
/** A GPU is asked about ranges of so many bytes: of fewer, a thread is through before an answer comes back. */
export const CODE_KERNEL_BYTES_MIN: number = 1024 * 1024;
/** and of a program only after a thread has taken so many whose bytes were verified before: what that takes is then known. */
export const CODE_RANGES_MEASURED = 2;
/** Of a program's ranges that GPUs computed, one of so many is computed by a thread too, and compared: the first, and so on. */
export const CODE_COMPARED_RANGES = 64;
/** GPUs are looked for where so much has been read again: a thread takes seconds for it, and finding them a second. */
export const CODE_GPU_BYTES: number = 4 * 1024 * 1024 * 1024;
/** Ranges that may be asked about while threads are at work. */
export const CODE_KERNELS_MAX = 8;
/** Of a GPU's own time for one range, a hundred times what the slowest that is worth asking takes for CODE_DIRECT_BYTES_MAX. */
export const CODE_KERNEL_MS_MAX = 10_000;

// ── kernels: which engine computes them ──────────────────────────────────────────────────────────────────────────────

/** What a call costs on a CPU beside its work, in milliseconds of CPU time; and its work (operations and bytes) in one of those. */
export const CPU_KERNEL_CALL_MS = 0.05;
export const CPU_KERNEL_WORK_PER_MS = 1_000_000;
/** Averages of measured calls that are remembered: one for each kernel, class of engine and size. */
export const KERNEL_AVERAGES_MAX = 2048;
/** What an average was before counts as so many calls at most. */
export const KERNEL_AVERAGE_CALLS = 16;
/** What one call can have taken, in milliseconds: what is beyond that was not measured, whoever says so. */
export const KERNEL_CALL_MS_MIN = 1e-6;
export const KERNEL_CALL_MS_MAX: number = 24 * 60 * 60 * 1000;
/** Calls of so many powers of two more or less work tell what one takes of which none like it was measured. */
export const KERNEL_BUCKETS_APART_MAX = 2;
/** One call of so many goes to the engine that is expected to be slower, where that is by no more than so many times. */
export const KERNEL_PROBE_CALLS = 50;
export const KERNEL_PROBE_TIMES_MAX = 4;
/** Kinds of calls (kernel, engine, size) that are told of at once: with the longest of reasons, they fit into a message's metadata. */
export const KERNEL_USES_MAX = 48;
/** Reports of calls of kernels that a job has: of each kernel on a GPU and on CPUs; and characters of why an engine was chosen. */
export const KERNEL_REPORTS_MAX: number = 2 * KERNELS_MAX;
export const ENGINE_REASON_CHARACTERS_MAX = 256;
/** Of what a GPU is called for people: more is no name. */
export const ENGINE_LABEL_CHARACTERS_MAX = 96;
/** Part of the jobs whose results depend on the engine of which another one runs a split too, and how many do at once. */
export const KERNEL_PROBE_JOBS = 0.02;
export const KERNEL_PROBES_MAX = 1;
/** Calls of less work say nothing of how fast an engine is. */
export const KERNEL_RATE_WORK_MIN: number = 1024 * 1024;

// ── kernels ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The source of one of kind "js", and of kind "wgsl". */
export const KERNEL_JS_SOURCE_BYTES_MAX: number = 32 * 1024;
export const KERNEL_WGSL_SOURCE_BYTES_MAX: number = 64 * 1024;
/** The WGSL module that is made of either. */
export const KERNEL_MODULE_BYTES_MAX: number = 512 * 1024;
/** The heap of the isolate in which GPU.js compiles, and what an executor process may answer for all kernels of a program. */
export const KERNEL_COMPILER_BYTES: number = 128 * 1024 * 1024;
export const KERNEL_COMPILED_BYTES_MAX: number = 16 * 1024 * 1024;
/** Statements, expressions and what they are made of in a source of kind "js", and how deep these stand in each other. */
export const KERNEL_NODES_MAX = 4096;
export const KERNEL_DEPTH_MAX = 40;
/** How often the body of the innermost loop may run for one element of the output: the product of the loops around it. */
export const KERNEL_TRIPS_MAX: number = 2 ** 40;
/** Inputs and outputs of one kernel, scalars left out: WebGPU promises no more bindings than these. */
export const KERNEL_TENSORS_MAX = 8;
/** Its inputs, with scalars. */
export const KERNEL_INPUTS_MAX = 32;
/** A tensor's dimensions; GPU.js has no more, and WGSL counts indices itself. */
export const KERNEL_RANK_MAX = 3;
export const KERNEL_NAME_CHARACTERS_MAX = 64;
/** A size expression, in characters and in parentheses within each other. */
export const KERNEL_SIZE_CHARACTERS_MAX = 2048;
export const KERNEL_SIZE_DEPTH_MAX = 64;
/** Size expressions whose parsed form a process keeps. */
export const KERNEL_SIZES_KEPT_MAX = 256;
/** Whole numbers that a 32-bit float has exactly: the dimensions of kernels of kind "js", and their integers. */
export const KERNEL_WHOLE_MAX: number = 2 ** 24;
/** Dimensions of other kernels, */
export const KERNEL_DIMENSION_MAX: number = 2 ** 32 - 1;
/** the bytes of a tensor, which is one binding, */
export const KERNEL_TENSOR_BYTES_MAX: number = 2 ** 31 - 4;
/** the words of a uniform buffer, */
export const KERNEL_UNIFORM_WORDS_MAX = 256;
/** and threads of a workgroup, as WebGPU promises them. */
export const KERNEL_WORKGROUP_THREADS_MAX = 256;
export const KERNEL_WORKGROUP_DEPTH_MAX = 64;
/** Workgroups along x, y or z. */
export const KERNEL_WORKGROUPS_MAX = 65_535;
/** What a call may use unless its kernel says so, and what one may say. */
export const KERNEL_LIMITS_DEFAULT: KernelLimits = { gpuMs: 2_000, gpuBytes: 4 * 1024 * 1024 * 1024 };
export const KERNEL_LIMITS_MAX: KernelLimits = { gpuMs: 60_000, gpuBytes: 64 * 1024 * 1024 * 1024 };
/** The share of a GPU that a call takes unless its kernel says so: while one computes, another's bytes are moved. And the smallest. */
export const KERNEL_GPU_SHARE_DEFAULT = 0.5;
export const KERNEL_GPU_SHARE_MIN: number = 1 / 64;

// ── schedule and job ─────────────────────────────────────────────────────────────────────────────────────────────

/** Time that passes between two looks at stragglers, pauses and loads that hang. */
export const SCHEDULE_TICK_MS = 100;
/** Work that an executor holds for one program, as long as its packets are small enough. */
export const LANE_HOLDS_MS = 500;
/** Packets that a lane holds at most, however fast they are answered. */
export const LANE_IN_FLIGHT_MAX = 8192;
/** A lane that may have no more per slot is one of long packets, of which others are to get theirs. */
export const LONG_IN_FLIGHT_MAX = 32;
/** Packets of one frame to a lane. */
export const SEND_PACKETS_MAX = 1024;
/** Input of all packets in flight on an executor, per slot; the last packet may go beyond it. */
export const EXECUTOR_SLOT_BYTES_MAX: number = 32 * 1024 * 1024;
/** Slots that are believed of an executor. */
export const EXECUTOR_SLOTS_MAX = 4096;
/** Executors that a task may be lost with before it is given up; or lanes, where there are few executors and none spared. */
export const TASK_LOSSES_MAX = 6;
/**
 * Executors on which a task may fail for want of its input or by a defect, before that is its answer; and how often it may
 * on each, where there are fewer.
 */
export const TASK_FAULTS_MAX = 3;
/** Lanes lost in a row, with nothing answered in between, after which an executor gets no more of that program. */
export const LANE_LOSSES_MAX = 8;
/** Executors that refuse to load a program, for its own sake as they say, before that is believed. */
export const LOAD_REFUSALS_MAX = 3;
/** Strikes of an executor, of one kind of program, with which it still gets packets of that kind. */
export const STRIKES_MAX = 5;
/** Time after which a strike counts half. */
export const STRIKE_HALF_LIFE_MS: number = 10 * 60 * 1000;
/** Strikes that follow each other faster are one. */
export const STRIKE_APART_MS = 250;
/** Executors whose strikes are remembered. */
export const STRIKE_ACCOUNTS_MAX = 4096;
/** Pause before a lost lane is loaded again, twice as long each time. */
export const LANE_PAUSE_MS = 100;
export const LANE_PAUSE_MS_MAX = 10_000;
/** A lane that loads for longer is not counted on any more, and given up after the second. */
export const LANE_LOAD_MS_PATIENCE = 5_000;
export const LANE_LOAD_MS_MAX = 60_000;
/** How long closing waits for lanes to be closed. */
export const LANES_CLOSE_MS_MAX = 10_000;
/** So long at most, tasks wait for the executor that has their bytes to load their program. */
export const STEAL_GRACE_MS = 1_000;
/** Packets that take less are no stragglers, and those of a batch that never answered have this long. */
export const STRAGGLER_MS_MIN = 1_000;
export const STRAGGLER_MS_BLIND = 15_000;
/** How long a batch waits for a first executor. */
export const EXECUTORS_WAIT_MS = 120_000;
/** and one whose class of engine is gone, while there is another that could run all of it. */
export const ENGINE_WAIT_MS = 1_000;
/** Classes of engine that a job begins on, one after the other is lost: the last are CPUs, where they will do. */
export const JOB_ENGINES_MAX = 4;
/** Streams of which it is remembered that a class of GPUs computed over them. */
export const RESIDENT_STREAMS_MAX = 1024;
/** How old the sum of what a program's lanes may have in flight may be. */
export const WEIGHT_STALE_MS = 50;

/** Tasks of one job, and packets of one `exec`. */
export const JOB_TASKS_MAX: number = 1024 * 1024;
/** Jobs that run at once, programs that are open, and frames that one of those executes; more are refused. */
export const JOBS_MAX = 64;
export const PROGRAMS_OPEN_MAX = 256;
export const PROGRAM_FRAMES_MAX = 1024;
/** Packets that a loaded program is expected to have run when it is closed: what computes its kernels is chosen for so many. */
export const LOADED_PACKETS_EXPECTED = 64;
/** Packets of a frame that shares a batch with others of its turn, and of such a batch. */
export const SHARED_CALL_PACKETS_MAX = 64;
export const SHARED_BATCH_PACKETS_MAX = 1024;
/** Packets of a stream of frames that are taken from its source and whose answers nobody has read. */
export const UNREAD_PACKETS_MAX: number = 64 * 1024;
/** Frames, or small ones together, that such a stream has under way. */
export const STREAM_RUNS_MAX = 128;
/** Finished jobs that are remembered. */
export const JOBS_REMEMBERED = 256;
/** Packets of all jobs and programs of a machine together; each costs about 200 bytes of memory. */
export const JOBS_PACKETS_MAX: number = 4 * 1024 * 1024;
/** Splits of a job's input as long as that makes none of them larger or smaller than these, */
export const SPLITS = 32;
export const SPLIT_BYTES: number = 1024 * 1024;
export const SPLIT_BYTES_MIN: number = 64 * 1024;
/**
 * and of programs that yield groups, whose partial results cost what some megabytes of input cost: fewer, up to an input that a few
 * workers are through in a second.
 */
export const GROUPS_SPLITS = 10;
export const GROUPS_SPLIT_BYTES: number = 8 * 1024 * 1024;
export const GROUPS_SPLIT_BYTES_MIN: number = 256 * 1024;
export const GROUPS_FEW_BYTES: number = 128 * 1024 * 1024;
/** and of packet code, which is through a megabyte in a tenth of a millisecond. */
export const CODE_SPLITS = 16;
export const CODE_SPLIT_BYTES: number = 16 * 1024 * 1024;
export const CODE_SPLIT_BYTES_MIN: number = 8 * 1024 * 1024;
/** and of readers of blocks, whose kernels compute over megabytes in the time that a call of one takes. */
export const BLOCK_SPLITS = 16;
export const BLOCK_SPLIT_BYTES: number = 16 * 1024 * 1024;
export const BLOCK_SPLIT_BYTES_MIN: number = 1024 * 1024;
/** From so many on, splits become larger instead of more, up to SPLIT_BYTES_MAX, */
export const SPLITS_MANY = 4096;
/** and of programs that yield groups, behind GROUPS_FEW_BYTES, as many as give most networks' workers some: since sizes are powers of two, 32 to 64. */
export const GROUPS_SPLITS_MANY = 45;
export const GROUPS_SPLIT_BYTES_MANY_MIN: number = 4 * 1024 * 1024;
export const SPLIT_BYTES_MAX: number = 16 * 1024 * 1024;
/** A split may be so much longer or shorter in order to end where leaves of its stream meet, or an eighth of its size. */
export const SPLIT_SLACK_BYTES: number = 128 * 1024;
/** Packets of all inputs' streams that are looked at for such places. */
export const PLAN_PACKETS_MAX: number = 512 * 1024;
/** Partial results that one packet merges. */
export const MERGE_FAN_IN = 32;
/** And of results that are groups, whose merges are partitioned: as many as most jobs have splits of many groups. */
export const GROUPS_FAN_IN = 64;
/** And of groups that are not combined, which do not become less by being merged. */
export const LISTS_FAN_IN = 1024;
/** Hashes of keys fall into so many buckets at most, in which a partial result stands if it is longer than one of them. */
export const BUCKETS_MAX = 256;
export const BUCKET_UNITS: number = 64 * 1024;
/** What one partition of a merge or finish takes in, as long as no more partitions than buckets do for it. */
export const PARTITION_BYTES: number = 4 * 1024 * 1024;
export const PARTITIONS_MAX: number = BUCKETS_MAX;
/** Keys that a split or merge folds at once; with more of them it writes down what it has, and begins anew. */
export const FOLDED_KEYS_MAX: number = 256 * 1024;
/** Sorted groups between two keys that are noted in a run's index, in UTF-16 units, unless those are long. */
export const RUN_BLOCK_UNITS: number = 8 * 1024;
/** What an index may have that is read. No run has a longer one: each of its keys stands in a line of what the packet yields, too. */
export const RUN_INDEX_BYTES_MAX: number = PROGRAM_LIMITS_MAX.outputBytes / 2;
/** What one part of the order takes in, and how many there are at most. */
export const ORDER_BYTES: number = 4 * 1024 * 1024;
export const ORDER_PARTS_MAX = 4096;
/** Answers to packets whose results are merged stand in blocks of so many, a multiple of MERGE_FAN_IN. */
export const ANSWER_BLOCK_PACKETS = 4096;
/** Inputs of merges that are written at once. */
export const MERGE_WRITES_MAX = 8;
/** and results of which one of those writes inputs, unless it is those of one task. */
export const MERGE_WRITE_RESULTS = 4096;
/** Tasks whose inputs are worth a write of their own while another one is under way. */
export const MERGES_WRITTEN_MIN = 128;
/** Bytes of a result that is given back as a value. */
export const RESULT_BYTES_MAX: number = 64 * 1024 * 1024;
/** Chunks of a job's inputs of which executors are asked whether they have them. */
export const LOCALITY_REFS_MAX = 4096;
/** Of these at most so many in one split. */
export const LOCALITY_REFS_PER_SPLIT = 16;
/** So long at most, a job waits for what executors say they have. */
export const LOCALITY_WAIT_MS = 1_000;
/** How often a result is made again because it was lost before it was read or kept. */
export const RESULT_ATTEMPTS_MAX = 4;
/** Results of each lane that are looked at before a file that is made of them gets its name. */
export const RESULT_SAMPLES = 4;
/** How long the text of a fault may take to be read. */
export const FAULT_WAIT_MS = 5_000;
/** Time between two progress events. */
export const PROGRESS_MS = 100;
/** Notes of a job that are kept, each cut to so many characters. */
export const JOB_NOTES_MAX = 100;
export const JOB_NOTE_CHARS_MAX = 1024;

// ── accelerator ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** Rings that bytes go to a GPU and back through: so many buffers, of so many bytes each. */
export const GPU_RING_BUFFERS = 4;
export const GPU_RING_BUFFER_BYTES: number = 16 * 1024 * 1024;
/** Inputs and outputs of at most so many bytes go without what is for many. */
export const GPU_WRITE_BYTES_MAX: number = 64 * 1024;
/** What is read from files at once, and how often at the same time. */
export const GPU_READ_BYTES: number = 4 * 1024 * 1024;
export const GPU_READS_MAX = 8;
/** The smallest buffer that is made. */
export const GPU_BUFFER_BYTES_MIN = 256;
/** Pipelines that stay compiled. */
export const GPU_MODULES_MAX = 256;
/** A message to or of a GPU process, with the WGSL that it has, and the bytes that belong to it: rows that say where an input's are. */
export const GPU_FRAME_HEAD_BYTES_MAX: number = 4 * 1024 * 1024;
export const GPU_FRAME_BODY_BYTES_MAX: number = 64 * 1024 * 1024;
/** The window that outputs leave a GPU process through: so many slots, of so many bytes each. Smaller outputs go without it. */
export const GPU_WINDOW_SLOTS = 4;
export const GPU_WINDOW_SLOT_BYTES: number = 4 * 1024 * 1024;
/** Bytes of inputs in one message. */
export const GPU_PIECE_BYTES: number = 1024 * 1024;
/** What a probe takes at least where nobody else uses the GPU. */
export const GPU_PROBE_MS = 3;
/** Calls that a GPU process has at once: one computes, one is brought there, one is read back. */
export const GPU_CALLS_MAX = 3;
/** How often a call is made again because its process was lost before it computed, or its inputs were elsewhere by then. */
export const GPU_CALL_TRIES_MAX = 4;
/** How often a kernel may use up its time on a GPU, or end its process; then it gets no more calls there. */
export const GPU_STRIKES_MAX = 3;
/** Kernels of which a GPU remembers how often. */
export const GPU_STRIKES_KEPT_MAX = 1024;
/** How long inputs stay in a GPU's memory while nobody calls a kernel. */
export const GPU_REST_MS: number = 60 * 1000;
/** How often the process of a GPU is started in a row before it is said to be gone. */
export const GPU_STARTS_MAX = 3;
/** CPU time that compiling one may take. */
export const GPU_COMPILE_CPU_MS = 5_000;
/** On a GPU that others use, a call may take so many times its limit of wall time. */
export const GPU_LIMIT_TIMES_MAX = 8;
/** Whoever looks whether a limit is over does not look again before. */
export const GPU_WATCH_MS_MIN = 10;
/** What a probe may take before the GPU is said to answer nobody. */
export const GPU_PROBE_WAIT_MS = 1_000;
/** What one takes at most that tells, once a call was ended, that it had kept the GPU from answering: a machine without turns is slow still. */
export const GPU_PROBE_QUICK_MS = 200;
/**
 * A GPU's process that says nothing and uses no CPU time is looked at so often, in milliseconds, until another one has its calls: in
 * all no longer than a kernel may compute, and a second, which costs calls that were only slow nothing but time.
 */
export const GPU_SILENCE_LOOK_MS = 250;
export const GPU_SILENCE_LOOKS = 9;
/** What a call may take beside its limit: its inputs may come from elsewhere. */
export const GPU_CALL_CEILING_MS: number = 5 * 60 * 1000;
/** Ranges of streams of which it is remembered where they stand in files, and what that takes: many pieces take much. */
export const GPU_PLANS_MAX = 256;
export const GPU_PLANS_BYTES_MAX: number = 64 * 1024 * 1024;
/** Inputs that stay in a GPU's memory, however small: both sides know each of them. */
export const GPU_RESIDENT_INPUTS_MAX = 1024;
/** What is used of a GPU's memory: so much of it, */
export const GPU_MEMORY_SHARE = 0.75;
/** or so many bytes where it does not tell how much it has. */
export const GPU_MEMORY_UNKNOWN_BYTES: number = 2 * 1024 * 1024 * 1024;
/** Calls of programs that ask how much memory there is. */
export const GPU_MEMORY_TOOL_MS = 5_000;
/** Modules of which it is remembered what a compiler says, and how long one is kept running for more of them. */
export const WGSL_CHECKS_MAX = 1024;
export const WGSL_CHECK_IDLE_MS = 10_000;
