/** Runs programs in real executor processes. */
import { encodeFrame } from "../../../packets/packet.ts";
import { Op } from "../../../packets/layout.ts";
import { ExecutorProcess } from "../../../runtime/sandbox/process/executor-process.ts";
import type { ExecutorProcessOptions } from "../../../runtime/sandbox/process/executor-process.ts";
import { parseFault } from "../../../runtime/sandbox/process/executor-process.ts";
import type { Entry } from "../../../runtime/program/program.ts";
import { programCode } from "../../program-code.ts";

const MIB = 1024 * 1024;

export function startExecutor(options: Partial<ExecutorProcessOptions> = {}): Promise<ExecutorProcess> {
  return ExecutorProcess.start({
    threads: 1,
    rssBytesMax: 600 * MIB,
    sharedMemoryBytes: 64 * MIB,
    ...options,
  });
}

export interface PacketSource {
  readonly bytes: Uint8Array | string;
  /** Where the first byte behind the prefix stands in the file. */
  readonly place?: number;
  readonly prefix?: number;
  readonly tail?: number;
  /** What the packet's `from` says; `place` unless given. */
  readonly from?: number;
  readonly ref?: number;
}

export interface PacketResult {
  readonly status: number;
  readonly text: string;
  /** What it yielded, as it is. */
  readonly bytes: Uint8Array;
  /** The byte that a fault names. */
  readonly at: number | undefined;
  readonly log: string | undefined;
}

export interface RunOptions {
  readonly entry?: Entry;
  readonly args?: unknown;
  readonly lane?: number;
}

let lastLane = 0;

/** Inspects and loads a module into a lane of its own. */
export async function loadProgram(
  executor: ExecutorProcess,
  source: string,
  { entry = "map", args = null, lane = ++lastLane }: RunOptions = {},
): Promise<number> {
  const code = programCode(source);
  const description = await executor.inspect(code);
  await executor.load(lane, { name: "test.js", code, entry, description, args: JSON.stringify(args) });
  return lane;
}

/** Runs one frame; the answers may be fewer than the packets. */
export async function runFrame(
  executor: ExecutorProcess,
  lane: number,
  sources: readonly PacketSource[],
): Promise<PacketResult[]> {
  const extents = new Float64Array(sources.length * 5);
  const taken: number[] = [];
  const frame = encodeFrame(
    sources.map(({ place = 0, from = place, ref = 7, bytes }, at) => ({
      op: Op.EXEC,
      lane,
      at,
      length: Buffer.byteLength(bytes),
      from,
      ref: new Uint8Array(32).fill(ref),
    })),
  );
  for (const [index, { bytes, place = 0, prefix = 0, tail = 0 }] of sources.entries()) {
    const input = Buffer.from(bytes);
    if (input.byteLength === 0) {
      extents.set([0, 0, place, prefix, 0], index * 5);
      continue;
    }
    const offset = executor.sharedMemory.alloc(input.byteLength)!;
    taken.push(offset);
    await executor.sharedMemory.write(offset, input);
    extents.set([offset, input.byteLength, place, prefix, tail], index * 5);
  }
  try {
    const { statuses, offsets, lengths, output, logs } = await executor.run(lane, frame, extents);
    return Array.from(statuses, (status, index) => {
      const bytes = output.subarray(offsets[index], offsets[index]! + lengths[index]!);
      const log = logs.find((entry) => entry.index === index)?.text;
      if (status === 0) return { status, text: Buffer.from(bytes).toString(), bytes, at: undefined, log };
      const { text, place } = parseFault(bytes);
      return { status, text, bytes, at: place, log };
    });
  } finally {
    if (!executor.closed) for (const offset of taken) executor.sharedMemory.free(offset);
  }
}

/** The whole of it for one packet. */
export async function runOnce(
  executor: ExecutorProcess,
  source: string,
  input: PacketSource | string | Uint8Array,
  options: RunOptions = {},
): Promise<PacketResult> {
  const lane = await loadProgram(executor, source, options);
  try {
    const packet = typeof input === "string" || input instanceof Uint8Array ? { bytes: input } : input;
    const [result] = await runFrame(executor, lane, [packet]);
    return result!;
  } finally {
    executor.unload(lane);
  }
}

/** What `collect` pushed with console.log(JSON.stringify(...)), a line each. */
export function logged({ status, text, log }: PacketResult): unknown[] {
  if (status !== 0) throw new Error(`fault ${status}: ${text}`);
  return log === undefined ? [] : log.split("\n").map((line) => JSON.parse(line) as unknown);
}
