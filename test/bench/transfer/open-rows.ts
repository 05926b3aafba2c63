/** Rows about a connection that is open: how long one file takes, and how much of that is the link. */
import { hash } from "node:crypto";
import { mkdtempSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { connect } from "packetfs";
import type { PacketFS } from "packetfs";
import { cpuSeconds } from "../cpu-time.ts";
import { spreadOf } from "../harness.ts";
import { writeRandom } from "../corpus.ts";
import type { Mover, Served } from "./movers.ts";
import { runClient } from "./processes.ts";
import { Relay } from "./relay.ts";
import type { LinkShape } from "./relay.ts";
import type { Figures, Goal } from "./rows.ts";

export interface OpenRow {
  readonly name: string;
  readonly bytes: number;
  readonly isPut?: boolean;
  readonly link?: LinkShape;
  /** Files, one after the other; the figures are those of the one in the middle. */
  readonly times: number;
  readonly goals: readonly Goal[];
}

const SMALL_BYTES = 15_000;
/** As a satellite's: 500 ms there and back. */
const FAR: LinkShape = { delayMs: 250, bitsPerSecond: 20e6 };
const ROUND_TRIP_SECONDS = 0.5;
/** Of commands, which take longer by far than what is between them. */
const COMMANDS_MAX = 10;
/** Calls before the first that counts, for V8 to compile what they need. */
const TIMES_BEFORE = 4;

const milliseconds = (most: number): Goal => ({ says: "ms", figure: ({ seconds }) => seconds * 1000, most });
const roundTrips: Goal = {
  says: "round trips of the link",
  figure: ({ seconds }) => seconds / ROUND_TRIP_SECONDS,
  most: 2,
};
const linkTimes = (bytes: number, most: number): Goal => ({
  says: "× the time that the link takes",
  figure: ({ seconds }) => seconds / ((bytes * 8) / FAR.bitsPerSecond! + ROUND_TRIP_SECONDS),
  most,
});

export const OPEN_ROWS: readonly OpenRow[] = [
  {
    name: "put 15 KB, open connection",
    bytes: SMALL_BYTES,
    isPut: true,
    times: 300,
    goals: [milliseconds(2)],
  },
  { name: "get 15 KB, open connection", bytes: SMALL_BYTES, times: 500, goals: [milliseconds(0.8)] },
  {
    name: "put 15 KB, open connection, 20 Mbit/s, 500 ms there and back",
    bytes: SMALL_BYTES,
    isPut: true,
    link: FAR,
    times: 5,
    goals: [roundTrips],
  },
  {
    name: "get 15 KB, open connection, 20 Mbit/s, 500 ms there and back",
    bytes: SMALL_BYTES,
    link: FAR,
    times: 5,
    goals: [roundTrips],
  },
  {
    name: "get 64 MB, open connection, 20 Mbit/s, 500 ms there and back",
    bytes: 64_000_000,
    link: FAR,
    times: 1,
    goals: [linkTimes(64_000_000, 1.2)],
  },
];

/** Does a row's work: over one connection of PacketFS, and by a command each time of who has no such thing. */
export async function measureOpen(
  row: OpenRow,
  mover: Mover,
  scratch: string,
  loopbackBytes: () => number,
): Promise<Figures> {
  const folder = mkdtempSync(join(scratch, "open-"));
  try {
    const file = join(folder, "file");
    if (row.bytes > SMALL_BYTES) writeRandom(file, row.bytes);
    else writeFileSync(file, smallBytes(0));
    const served = await mover.serve(row.isPut === true ? [] : [file], folder);
    await using server = served.server;
    await using relay = row.link === undefined ? undefined : await Relay.to(served.port, row.link);
    const reached = relay?.port ?? served.port;
    const counted = relay === undefined ? loopbackBytes : (): number => relay.bytes;
    await using mine = await openWorker(row, served, reached, folder);
    const times = mine.isCommand ? Math.min(row.times, COMMANDS_MAX) : row.times;
    const timesBefore = mine.isCommand || row.link !== undefined ? 0 : times * TIMES_BEFORE;
    const { result, ...use } = await server.during(async () => {
      const seconds: number[] = [];
      for (let time = 0; time < timesBefore; time++) await mine.move();
      const bytesBefore = counted();
      const cpuBefore = cpuSeconds();
      for (let time = 0; time < times; time++) {
        const begun = performance.now();
        await mine.move();
        seconds.push((performance.now() - begun) / 1000);
      }
      const { median } = spreadOf(seconds);
      return { median, bytes: counted() - bytesBefore, cpu: cpuSeconds() - cpuBefore };
    });
    const { median, bytes, cpu } = result;
    return {
      bytes: bytes / times,
      seconds: median,
      cpuSeconds: cpu / times,
      clientPeak: process.memoryUsage.rss(),
      serverPeak: use.peakBytes,
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

interface OneWorker extends AsyncDisposable {
  /** Whether each is a command of its own. */
  readonly isCommand: boolean;
  move(): Promise<void>;
}

async function openWorker(row: OpenRow, served: Served, at: number, folder: string): Promise<OneWorker> {
  const { token, env = {} } = served;
  const target = join(folder, "target");
  let files = 0;
  if (token !== undefined) {
    const pfs = await connect(token(at));
    const move =
      row.isPut === true
        ? async () => void (await pfs.put(smallBytes(++files), { name: `small-${files}` }))
        : async () => await getOne(pfs, row.bytes, target);
    return { isCommand: false, move, [Symbol.asyncDispose]: () => pfs.close() };
  }
  const source = join(folder, "source");
  return {
    isCommand: true,
    move: async () => {
      if (row.isPut === true) {
        writeFileSync(source, smallBytes(++files));
        // A command that compares times would leave out what was written within the second.
        utimesSync(source, files, files);
      } else rmSync(target, { force: true });
      const { status, said } = await runClient(
        row.isPut === true ? served.put(source, at) : served.get(target, at),
        { env },
      );
      if (status !== 0) throw new Error(said);
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
}

async function getOne(pfs: PacketFS, length: number, target: string): Promise<void> {
  let bytes = 0;
  if (length === SMALL_BYTES) for await (const piece of pfs.get("moved")) bytes += piece.byteLength;
  else {
    await pfs.getFile("moved", target);
    bytes = statSync(target).size;
  }
  if (bytes !== length) throw new Error(`${bytes} bytes came instead of ${length}`);
}

function smallBytes(index: number): Buffer {
  const bytes = Buffer.alloc(SMALL_BYTES);
  for (let at = 0; at + 32 <= SMALL_BYTES; at += 32)
    hash("sha256", `${index} ${at}`, "buffer").copy(bytes, at);
  return bytes;
}
