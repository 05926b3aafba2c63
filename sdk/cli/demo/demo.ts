/** pfs demo: what PacketFS is for, on real input, from an empty folder to results, told as it happens. */
import { randomFill } from "node:crypto";
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify, styleText } from "node:util";
import { Command } from "commander";
import { disassemble } from "../../../packets/disassemble.ts";
import { messageOf } from "../../../packets/errors.ts";
import { packetCount } from "../../../packets/packet.ts";
import { makeTemporaryDirectory } from "../../../runtime/temporary-directory.ts";
import { code } from "../../code/code.ts";
import { SdkError, SdkErrorCode } from "../../errors.ts";
import type { JobEvent, JobResult, PacketFS, ProgramSource } from "../../packetfs.ts";
import { formatBytes, formatCount, formatDuration, formatRate, plural } from "../format.ts";
import { example } from "../help.ts";
import type { Output } from "../output.ts";
import { drawBar, Progress } from "../progress.ts";
import { onRun } from "../context.ts";
import type { Context, Host } from "../context.ts";
import { countWordsPlainly, editCorpus, readCorpus, sha256Hex } from "./corpus.ts";
import type { Corpus } from "./corpus.ts";
import { startNetwork } from "./network.ts";
import type { Network } from "./network.ts";
import { drawPicture, PICTURE_HEIGHT } from "./picture.ts";
import { runPlainly } from "./plain-run.ts";
import { INDENT, Story } from "./story.ts";

const CORPUS = "corpus.txt";
const MEASURED = "measurements";
const MEASUREMENTS: number = 16 * 1024 * 1024;
const MEASUREMENT_BYTES = 8;
const LOW_VALUE = 100_000;
const ROWS = "rows.txt";
/** Ten rows of the picture: who is done with them takes the next ten. */
const ROWS_SPLIT_BYTES = 40;
const WORD_COUNT = fileURLToPath(new URL("../../../examples/word-count.ts", import.meta.url));
const MANDELBROT = fileURLToPath(new URL("../../../examples/mandelbrot.ts", import.meta.url));
/** Programs that mean harm, by what they do, and how much they may use. */
const HOSTILE = [
  ["loops for ever, and may use 1 s of CPU time", "limits: { timeMs: 1000 }, map: () => { for (;;); }"],
  [
    "eats memory, and may have 64 MB",
    "limits: { memoryBytes: 64_000_000 }, map: () => { for (const kept = []; ; ) kept.push([...kept, 1]); }",
  ],
] as const;
const PACKETS_SHOWN = 4;
const WORDS_SHOWN = 6;
const BAR_COLUMNS = 40;
const LIVE_BAR_COLUMNS = 24;

export function demoCommand(host: Host): Command {
  const command = new Command("demo")
    .summary("watch all of it happen on this machine")
    .description(
      "Start a hub and two nodes as processes of their own, store real text, run programs over it on both, also such as mean harm, change it, kill a node in the middle of a job, and end everything again. Nothing is left behind.",
    )
    .addHelpText("after", example("pfs demo"));
  return onRun(command, host, demo, ["--at", "--token-file", "--node"]);
}

async function demo({ output, signal }: Context): Promise<void> {
  const startedAt = performance.now();
  const story = new Story(output);
  await story.title("PacketFS: files as streams of executable 64-byte packets");
  await story.step("Start a hub and two nodes: processes that speak encrypted ZeroMQ");
  const network = await startNetwork({ nodes: 2, workers: 1, signal });
  try {
    // Only now: every other command starts faster without it.
    const { connect } = await import("../../remote.ts");
    await using first = await connect(network.clientToken, { node: "node-1", signal });
    await using second = await connect(network.clientToken, { node: "node-2", signal });
    const scene: Scene = { story, output, signal, network, first, second, corpus: readCorpus() };
    await showNetwork(scene);
    await storeText(scene);
    await runPacketCode(scene);
    const picture = await beatOneThread(scene);
    await containHostilePrograms(scene);
    await editText(scene);
    await killNode(scene, picture);
  } finally {
    await network.stop();
  }
  await story.say();
  await story.say(`All processes have ended and their folders are gone; that took ${since(startedAt)}.`);
  await story.say(`Next: ${styleText("bold", "npx pfs --help", { stream: process.stdout })}`);
  if (story.isWrong) {
    throw new SdkError(
      SdkErrorCode.demoFailed,
      "the demo got a wrong answer: please report what it printed",
      {},
    );
  }
}

/** What all steps work with. */
interface Scene {
  readonly story: Story;
  readonly output: Output;
  readonly signal: AbortSignal;
  readonly network: Network;
  /** The hub's files and jobs, by way of node-1 and node-2. */
  readonly first: PacketFS;
  readonly second: PacketFS;
  readonly corpus: Corpus;
}

async function showNetwork({ story, network }: Scene): Promise<void> {
  const processes = [{ label: "hub", process: network.hub }, ...network.nodes];
  await story.tell(processes.map(({ label, process: { pid } }) => `${label} pid ${pid}`).join(", "));
  await story.saw("Each is one command that anybody can type on a machine of theirs.");
}

async function storeText({ story, output, signal, first, second, corpus }: Scene): Promise<void> {
  const size = formatBytes(corpus.bytes.byteLength);
  await story.step(
    `Store ${size} of text at node-1: ${plural(corpus.files, "file")} of the installed packages`,
  );
  const progress = new Progress(output, `${INDENT}storing`);
  const { packets, root, storedBytes } = await first.put(corpus.bytes, {
    name: CORPUS,
    signal,
    onProgress: (done) => progress.update(done, corpus.bytes.byteLength),
  });
  progress.end();
  await story.tell(`root ${root}`);
  await showPackets(first, story);
  await story.tell("Fetch it from node-2, which asks node-1 for what it lacks:");
  const fetchedAt = performance.now();
  const got = sha256Hex(await piecesOf(second.get(CORPUS, { signal })));
  await story.check(got === sha256Hex([corpus.bytes]), `the same SHA-256, after ${since(fetchedAt)}`);
  await story.saw(
    `The file is a program of ${plural(packets, "packet")} of 64 bytes, reading it runs them, and ${formatBytes(storedBytes)} crossed the wire for its ${size}.`,
  );
}

async function showPackets(pfs: PacketFS, story: Story): Promise<void> {
  for await (const { frame } of pfs.packets(CORPUS)) {
    const count = packetCount(frame);
    const shown = Math.min(count - 1, PACKETS_SHOWN - 1);
    for (let index = 0; index < shown; index++) await story.show(disassemble(frame, index));
    if (shown < count - 1) await story.tell(`… ${formatCount(count - 1 - shown)} more`);
    await story.show(disassemble(frame, count - 1));
    return;
  }
}

/** In a store of its own: packet code runs in the very process that has the chunks. */
async function runPacketCode({ story, output, signal }: Scene): Promise<void> {
  const bytes = new Uint8Array(MEASUREMENTS * MEASUREMENT_BYTES);
  await promisify(randomFill)(bytes);
  const size = formatBytes(bytes.byteLength);
  await story.step(`Search ${formatCount(MEASUREMENTS)} measurements (${size}) with a program of 32 bytes`);
  const program = code.columns({ time: "u32", value: "u32" }).filter("value", "<", LOW_VALUE).count();
  const { openLocal } = await import("../../local.ts");
  const directory = await makeTemporaryDirectory("demo");
  let fastest = 0;
  let found: number | bigint | undefined | null;
  try {
    await using pfs = await openLocal(directory);
    const progress = new Progress(output, `${INDENT}storing`);
    const onProgress = (done: number): void => progress.update(done, bytes.byteLength);
    await pfs.put(bytes, { name: MEASURED, signal, onProgress });
    progress.end();
    await story.tell(program.toString());
    for (const what of ["each chunk's hash checked", "once more, hashes known"]) {
      const startedAt = performance.now();
      ({ value: found } = await pfs.run(program, [MEASURED], { signal }));
      const took = performance.now() - startedAt;
      fastest = Math.max(fastest, bytes.byteLength / took);
      await story.tell(
        `${formatCount(Number(found))} found in ${formatDuration(took)}, ${formatRate(bytes.byteLength, took)}: ${what}`,
      );
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  await story.check(Number(found) === lowValues(bytes), "the count of a plain loop over the same bytes");
  await story.saw(
    `There is nothing in 32 verified bytes that could do harm, so they ran beside the store, without a sandbox, at ${formatRate(fastest, 1)}.`,
  );
}

function lowValues(bytes: Uint8Array): number {
  const columns = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  let count = 0;
  for (let at = 1; at < columns.length; at += 2) if (columns[at]! < LOW_VALUE) count++;
  return count;
}

async function beatOneThread(scene: Scene): Promise<Uint8Array> {
  const { story, output, signal, first } = scene;
  await story.step("Compute a picture in one plain thread, then the same on both nodes");
  const rows = Array.from({ length: PICTURE_HEIGHT }, (_, row) => `${row}`);
  await first.put(Buffer.from(`${rows.join("\n")}\n`), { name: ROWS, signal });
  const plain = await timed(output, "one thread", (onShare) => computePlainly(rows, signal, onShare));
  const nodes = await timed(output, "two nodes", (onShare) => computePicture(scene, onShare));
  const longest = Math.max(plain.took, nodes.took);
  const times = plain.took / nodes.took;
  await story.show(raceLine("one thread", plain.took, longest));
  await story.show(`${raceLine("two nodes", nodes.took, longest)}  ${times.toFixed(1)}× as fast`);
  await story.check(
    Buffer.compare(plain.result, nodes.result.bytes) === 0,
    `the same ${formatCount(plain.result.byteLength)} points; ${describeSplits(nodes.result.job)}`,
  );
  await story.saw(
    times > 1
      ? `Two sandboxed nodes took ${formatDuration(nodes.took)} for what takes a bare thread ${formatDuration(plain.took)}, with the very same code.`
      : "The nodes were not faster this time: this machine has one core, or others have its cores.",
  );
  return plain.result;
}

interface Computed {
  readonly job: JobResult;
  readonly bytes: Uint8Array;
}

/** `onShare` is told which share of the packets is done. */
async function computePicture({ first, signal }: Scene, onShare: (share: number) => void): Promise<Computed> {
  const job = await first.run({ path: MANDELBROT }, [ROWS], {
    splitBytes: ROWS_SPLIT_BYTES,
    signal,
    onEvent: (event) => event.kind === "progress" && onShare(event.done / event.tasks),
  });
  return { job, bytes: Buffer.concat(await piecesOf(first.get(job.file!.root, { signal }))) };
}

/** The same of a thread that knows nothing of PacketFS. */
async function computePlainly(
  records: readonly string[],
  signal: AbortSignal,
  onShare: (share: number) => void,
): Promise<Uint8Array> {
  const { bundleProgram } = await import("../../programs/bundle.ts");
  const { code: text } = await bundleProgram({ path: MANDELBROT });
  return await runPlainly({ code: Buffer.from(text).toString(), records }, { signal, onShare });
}

async function containHostilePrograms({ story, output, signal, first, corpus }: Scene): Promise<void> {
  await story.step("Count words on both nodes, beside two programs that mean harm");
  const progress = new Progress(output, `${INDENT}word-count`);
  const hostile = HOSTILE.map(async ([what, parts]) => {
    const text = await refusalOf(first, parts, signal);
    await story.tell(`A program that ${what}: ${text}`);
    return text !== "";
  });
  const onEvent = (event: JobEvent): void => {
    if (event.kind !== "progress") return;
    progress.update(event.doneBytes, event.inputBytes, `${event.done}/${plural(event.tasks, "packet")}`);
  };
  const { value, statistics } = await first.run({ path: WORD_COUNT }, [CORPUS], { signal, onEvent });
  progress.end();
  const areContained = (await Promise.all(hostile)).every((isContained) => isContained);
  const counted = value as [word: string, count: number][];
  // Brackets and signs are counted as words too, and nobody is curious about those.
  const spoken = counted.filter(([word]) => /^\p{L}+$/u.test(word)).toSorted((a, b) => b[1] - a[1]);
  const most = spoken.slice(0, WORDS_SHOWN).map(([word, count]) => `${word} ${formatCount(count)}`);
  await story.tell(`Words, in ${formatDuration(statistics.milliseconds)}: ${most.join(", ")} …`);
  const plain = await countWordsPlainly(corpus.bytes);
  const isSame = counted.length === plain.size && counted.every(([word, count]) => plain.get(word) === count);
  await story.check(isSame, `the same ${formatCount(plain.size)} counts as those of a plain loop`);
  await story.check(areContained, "both others ended at their limits");
  await story.saw(
    "Programs run in processes without files, network or clock: these two were ended, and nobody else noticed.",
  );
}

/** Why a program failed; "" where it did not. */
async function refusalOf(pfs: PacketFS, parts: string, signal: AbortSignal): Promise<string> {
  const program: ProgramSource = {
    source: `import { defineProgram, lines } from "packetfs";\nexport default defineProgram({ input: lines(), ${parts} });`,
  };
  try {
    await pfs.run(program, [ROWS], { signal });
    return "";
  } catch (error) {
    signal.throwIfAborted();
    return messageOf(error);
  }
}

async function editText({ story, signal, first, second, corpus }: Scene): Promise<void> {
  await story.step("Edit the text in three places, store it again, fetch it from node-2");
  const bytes = editCorpus(corpus.bytes);
  const edited = await first.put(bytes, { name: CORPUS, signal });
  const got = sha256Hex(await piecesOf(second.get(CORPUS, { signal })));
  const share = ((edited.storedBytes / edited.length) * 100).toFixed(2);
  await story.tell(
    `${plural(edited.newChunks, "new chunk")}, ${formatBytes(edited.storedBytes)} on the wire: ${share} % of ${formatBytes(edited.length)}`,
  );
  await story.check(got === sha256Hex([bytes]), "the same SHA-256 from node-2");
  await story.saw("An edited file costs what is new in it; all else is called from what is there already.");
}

async function killNode(scene: Scene, picture: Uint8Array): Promise<void> {
  const { story, output, network } = scene;
  await story.step("Compute the picture once more, and kill node-2 in the middle");
  const victim = network.nodes[1]!;
  let killedAt: number | undefined;
  const { took, result } = await timed(output, "two nodes, then one", (onShare) =>
    computePicture(scene, (share) => {
      onShare(share);
      if (share < 1 / 3 || killedAt !== undefined) return;
      killedAt = share;
      victim.process.kill("SIGKILL");
    }),
  );
  const { job, bytes } = result;
  await story.tell(
    `node-2 was killed with ${Math.round(100 * killedAt!)} % done; all of it took ${formatDuration(took)}.`,
  );
  for (const note of job.statistics.notes) await story.tell(note);
  await story.check(
    Buffer.compare(picture, bytes) === 0,
    `the same picture; ${describeSplits(job)}, ${plural(job.statistics.retries, "packet")} placed again`,
  );
  const hasColours = output.isTerminal && process.stdout.getColorDepth() >= 8;
  for (const line of drawPicture(bytes, hasColours)) await story.show(INDENT + line);
  await story.saw(
    "A packet is a question with one answer, so whoever is left answers what the dead did not, and the result is the same.",
  );
}

interface Timed<Result> {
  readonly took: number;
  readonly result: Result;
}

/** Does `work`, with a bar at the bottom of the terminal. */
async function timed<Result>(
  output: Output,
  label: string,
  work: (onShare: (share: number) => void) => Promise<Result>,
): Promise<Timed<Result>> {
  const startedAt = performance.now();
  const draw = (share: number): void => {
    const bar = drawBar(share, LIVE_BAR_COLUMNS);
    output.status(
      `${INDENT}${label.padEnd(10)}  ${bar} ${String(Math.floor(100 * share)).padStart(3)} %  ${since(startedAt)}`,
    );
  };
  draw(0);
  try {
    const result = await work(draw);
    return { took: performance.now() - startedAt, result };
  } finally {
    output.status("");
  }
}

function raceLine(label: string, took: number, longest: number): string {
  const columns = Math.max(1, Math.round((took / longest) * BAR_COLUMNS));
  const bar = drawBar(1, columns, process.stdout) + " ".repeat(BAR_COLUMNS - columns);
  return `${INDENT}${label.padEnd(10)}  ${bar}  ${formatDuration(took).padStart(5)}`;
}

function describeSplits({ statistics: { byNode } }: JobResult): string {
  const nodes = Object.entries(byNode).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return nodes.map(([label, packets]) => `${plural(packets, "packet")} on ${label}`).join(", ");
}

async function piecesOf(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array[]> {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(piece);
  return all;
}

function since(start: number): string {
  return formatDuration(performance.now() - start);
}
