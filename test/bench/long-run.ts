/**
 * long-run.ts splits|stream STORE COUNT: a job of so many splits of 64 bytes, or so many packets in one stream, in a process of
 * its own, whose memory is its alone. Prints how many a second that were, and the most memory that the process had.
 */
import { Op, decodePacket, encodeFrame, openLocal, packetCount } from "packetfs";
import type { PacketFS } from "packetfs";
import { peakBytesOf } from "../suites/processes.ts";

export interface LongRun {
  readonly perSecond: number;
  readonly peakMebibytes: number;
}

const WORKERS = 2;
const SPLIT_BYTES = 64;
const FRAME_PACKETS = 1024;
const PIECE_BYTES = 64 * 1024;

async function* ofBytes(total: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < total; at += PIECE_BYTES)
    yield new Uint8Array(Math.min(PIECE_BYTES, total - at)).map((_, index) => (at >> 16) ^ (index * 7));
}

async function splits(pfs: PacketFS, count: number): Promise<void> {
  const source = `import { bytes, defineProgram } from "packetfs";
    export default defineProgram({
      input: bytes(${SPLIT_BYTES}), map: (record) => record.length, combine: (a: number, b: number) => a + b,
    });`;
  const { value, statistics } = await pfs.run({ source }, [`splits-${count}`], { splitBytes: SPLIT_BYTES });
  if (value !== count * SPLIT_BYTES || statistics.tasks !== count) throw new Error("another answer");
}

async function stream(pfs: PacketFS, count: number): Promise<void> {
  await pfs.put(
    new Uint8Array(64).map((_, index) => index),
    { name: "tiny" },
  );
  let ref = new Uint8Array(0);
  for await (const part of pfs.packets("tiny")) ref = decodePacket(part.frame, 0).ref.slice();
  const exec = { op: Op.EXEC, lane: 1, length: 64, ref };
  const frame = encodeFrame(Array.from({ length: FRAME_PACKETS }, () => exec));
  await using program = await pfs.load({
    source: `export default { input: { kind: "bytes" }, yields: "bytes", map() {} };`,
  });
  function* frames(): Generator<Uint8Array> {
    for (let left = count; left > 0; left -= FRAME_PACKETS)
      yield left < FRAME_PACKETS ? frame.slice(0, left * 64) : frame;
  }
  let answered = 0;
  for await (const answers of program.exec(frames())) answered += packetCount(answers);
  if (answered !== count) throw new Error("not as many answers as packets");
}

const [kind, store, words] = process.argv.slice(2) as [string, string, string];
const count = Number(words);
{
  await using pfs = await openLocal(store, { workers: WORKERS });
  const run = kind === "splits" ? splits : stream;
  const name = `splits-${count}`;
  if (kind === "splits" && !(await pfs.stat(name).catch(() => undefined)))
    await pfs.put(ofBytes(count * SPLIT_BYTES), { name });
  const start = performance.now();
  await run(pfs, count);
  const perSecond = count / ((performance.now() - start) / 1000);
  const result: LongRun = { perSecond, peakMebibytes: peakBytesOf(process.pid) / 1024 ** 2 };
  console.log(JSON.stringify(result));
}
