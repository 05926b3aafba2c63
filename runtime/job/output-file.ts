/**
 * The file that a program yields as bytes. The bytes stay where they were made: each lane keeps its own as a stream, and
 * the file calls ranges of those streams, in the order of the tasks.
 *
 *   tasks          0   1   2   3   4   5          made by lanes  A A B B A B
 *   kept by A    [ 0 │ 1 │ 4 ]      kept by B  [ 2 │ 3 │ 5 ]
 *   the file     CALL A 0-1,  CALL B 2-3,  CALL A 4,  CALL B 5
 */
import { createHash } from "node:crypto";
import type { Ref } from "../../packets/digest.ts";
import { Flag, PACKET_BYTES } from "../../packets/layout.ts";
import { invalidName } from "../../packets/name.ts";
import { flagsAt, lengthAt, refOf } from "../../packets/packet.ts";
import { StreamWriter } from "../../packets/stream-writer.ts";
import { writeChunks } from "../stream/ingest.ts";
import type { ChunkSink } from "../contracts/chunks.ts";
import type { Batch } from "./batch.ts";
import type { Dispatcher } from "./dispatcher.ts";

/** What one lane made. */
interface Part {
  readonly maker: number;
  readonly tasks: number[];
  root: Ref | undefined;
}

export interface OutputFile {
  readonly root: Ref;
  readonly length: number;
}

/**
 * Has every lane keep what it made and writes the file that calls it. Undefined when a lane was lost with what it made:
 * its tasks run again then, and this has to be called again after them.
 */
export async function writeOutputFile(
  dispatcher: Dispatcher,
  sink: ChunkSink,
  batch: Batch,
  name: string,
): Promise<OutputFile | undefined> {
  const parts = partsOf(batch);
  const kept = await Promise.all([...parts.values()].map((part) => keep(dispatcher, batch, part, name)));
  if (kept.includes(false)) return undefined;
  let chunks: Uint8Array[] = [];
  const writer = new StreamWriter((_ref, chunk) => chunks.push(chunk));
  const offsets = new Map<number, number>();
  for (let task = 0; task < batch.count; task++) {
    const length = lengthAt(batch.answers, task);
    const maker = batch.makers[task]!;
    if (isInline(batch, task)) writer.data(refOf(batch.answers, task).subarray(0, length));
    else {
      const offset = offsets.get(maker) ?? 0;
      writer.call(parts.get(maker)!.root!, offset, length);
      offsets.set(maker, offset + length);
    }
    if (chunks.length > 0) {
      await writeChunks(sink, chunks);
      chunks = [];
    }
  }
  const { root, length } = writer.finish();
  await writeChunks(sink, chunks);
  return { root, length };
}

/** What executors keep for output files stands under names that begin like this. */
export const PARTS_PREFIX = ".parts/";

/** What stands in for `out` in the names of parts when a job has none. Whoever started the job frees them. */
export function unnamedOut(job: string): string {
  return `job-${job}`;
}

/** The name of a part in its executor's catalog: a job with the same `out` replaces it. */
export function partName(out: string, executor: string): string {
  const name = `${PARTS_PREFIX}${out}/${executor}`;
  if (invalidName(name) === null) return name;
  const hash = (text: string): string => createHash("sha256").update(text).digest("hex");
  return `${PARTS_PREFIX}${hash(out)}/${hash(executor)}`;
}

function partsOf(batch: Batch): Map<number, Part> {
  const parts = new Map<number, Part>();
  for (let task = 0; task < batch.count; task++) {
    if (isInline(batch, task)) continue;
    const maker = batch.makers[task]!;
    const part = parts.get(maker);
    if (part === undefined) parts.set(maker, { maker, tasks: [task], root: undefined });
    else part.tasks.push(task);
  }
  return parts;
}

/** False when the lane is gone, which loses it for good. */
async function keep(dispatcher: Dispatcher, batch: Batch, part: Part, out: string): Promise<boolean> {
  const link = dispatcher.laneOf(part.maker);
  if (link === undefined) return false;
  const returns = new Uint8Array(part.tasks.length * PACKET_BYTES);
  for (const [index, task] of part.tasks.entries()) {
    returns.set(batch.answers.subarray(task * PACKET_BYTES, (task + 1) * PACKET_BYTES), index * PACKET_BYTES);
  }
  try {
    part.root = await link.keep(partName(out, link.executor.id), returns);
    return true;
  } catch (error) {
    dispatcher.dropLane(part.maker, error);
    return false;
  }
}

function isInline(batch: Batch, task: number): boolean {
  return (flagsAt(batch.answers, task) & Flag.INLINE) !== 0;
}
