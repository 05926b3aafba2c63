/** pfs demo: the main job on real input, from an empty folder to a result, told as it happens. */
import { fileURLToPath } from "node:url";
import { styleText } from "node:util";
import { Command } from "commander";
import { disassemble } from "../../../packets/disassemble.ts";
import { packetCount } from "../../../packets/packet.ts";
import { SdkError, SdkErrorCode } from "../../errors.ts";
import type { PacketFS, PutResult } from "../../packetfs.ts";
import { formatBytes, formatCount, formatDuration, plural } from "../format.ts";
import { example } from "../help.ts";
import type { Output } from "../output.ts";
import { Progress } from "../progress.ts";
import { onRun } from "../context.ts";
import type { Host, Context } from "../context.ts";
import { countWordsPlainly, editCorpus, readCorpus, sha256Hex } from "./corpus.ts";
import { startNetwork } from "./network.ts";

const FILE = "corpus.txt";
const PROGRAM = fileURLToPath(new URL("../../../examples/word-count.ts", import.meta.url));
const PACKETS_SHOWN = 6;
const WORDS_SHOWN = 8;

export function demoCommand(host: Host): Command {
  const command = new Command("demo")
    .summary("watch all of it happen on this machine")
    .description(
      "Start a hub and two nodes as processes of their own, store real text, run a program over it on both, fetch it back, change it, and end everything again. Nothing is left behind.",
    )
    .addHelpText("after", example("pfs demo"));
  return onRun(command, host, demo, ["--at", "--token-file", "--node"]);
}

async function demo({ output, signal }: Context): Promise<void> {
  // Only now: every other command starts faster without it.
  const { connect } = await import("../../remote.ts");
  const startedAt = performance.now();
  const say = (text = ""): Promise<void> => output.line(text);
  const step = (number: number, title: string): Promise<void> =>
    say(
      `\n${styleText(["bold", "cyan"], String(number), { stream: process.stdout })}  ${styleText("bold", title, { stream: process.stdout })}`,
    );

  await say(
    styleText("bold", "PacketFS: files as streams of executable 64-byte packets", { stream: process.stdout }),
  );
  await step(1, "Start a hub and two nodes: processes that speak encrypted ZeroMQ");
  const network = await startNetwork({ nodes: 2, workers: 1, signal });
  try {
    await say(`   hub     pid ${network.hub.pid}`);
    for (const { label, process: child } of network.nodes) await say(`   ${label}  pid ${child.pid}`);
    await using first = await connect(network.clientToken, { node: "node-1", signal });
    await using second = await connect(network.clientToken, { node: "node-2", signal });

    const corpus = readCorpus();
    await step(
      2,
      `Store ${formatBytes(corpus.bytes.byteLength)} of text at node-1: ${plural(corpus.files, "file")} of the installed packages`,
    );
    const stored = await put(first, corpus.bytes, FILE, output, signal);
    await say(`   ${describePut(stored)}`);
    await say(`   root ${stored.root}`);

    await step(3, "Look at its packets: the file is this program, and reading it executes it");
    await showPackets(first, say);

    await step(4, "Count its words in sandboxes: EXEC packets go to where the bytes are");
    const counted = await countWords(first, output, signal, say);

    await step(5, "Check it against a plain count in one thread");
    const plainAt = performance.now();
    const plain = await countWordsPlainly(corpus.bytes);
    const isSame =
      counted.length === plain.size && counted.every(([word, count]) => plain.get(word) === count);
    await say(`   ${tick(isSame)} the same ${formatCount(plain.size)} counts; plain took ${since(plainAt)}`);

    await step(6, "Fetch it from node-2, which asks node-1 for what it lacks; compare SHA-256");
    const wanted = sha256Hex([corpus.bytes]);
    const parts: Uint8Array[] = [];
    const fetchAt = performance.now();
    for await (const part of second.get(FILE, { signal })) parts.push(part);
    const took = since(fetchAt);
    const got = sha256Hex(parts);
    await say(`   stored   ${wanted}`);
    await say(`   fetched  ${got}`);
    await say(`   ${tick(got === wanted)}; fetched in ${took}`);

    await step(7, "Edit it in three places and store it again");
    const edited = await put(first, editCorpus(corpus.bytes), FILE, output, signal);
    const share = ((edited.storedBytes / edited.length) * 100).toFixed(2);
    await say(
      `   ${plural(edited.newChunks, "new chunk")}; ${formatBytes(edited.storedBytes)} crossed the wire: ${share} % of ${formatBytes(edited.length)}`,
    );
    if (!isSame || got !== wanted) {
      throw new SdkError(
        SdkErrorCode.demoFailed,
        "the demo got a wrong answer: please report what it printed",
        {},
      );
    }
  } finally {
    await network.stop();
  }
  await say(`\nAll processes have ended and their folders are gone; that took ${since(startedAt)}.`);
  await say(`Next: ${styleText("bold", "npx pfs --help", { stream: process.stdout })}`);
}

async function put(
  pfs: PacketFS,
  bytes: Uint8Array,
  name: string,
  output: Output,
  signal: AbortSignal,
): Promise<PutResult> {
  const progress = new Progress(output, "   storing");
  const onProgress = (done: number): void => progress.update(done, bytes.byteLength);
  const result = await pfs.put(bytes, { name, signal, onProgress });
  progress.end();
  return result;
}

function describePut({ chunks, newChunks, packets, storedBytes }: PutResult): string {
  return `${plural(packets, "packet")}, ${plural(chunks, "chunk")}, ${formatCount(newChunks)} of them new; ${formatBytes(storedBytes)} crossed the wire`;
}

async function showPackets(pfs: PacketFS, say: (text?: string) => Promise<void>): Promise<void> {
  for await (const { depth, frame } of pfs.packets(FILE)) {
    const count = packetCount(frame);
    const shown = depth === 0 && count <= PACKETS_SHOWN ? count : Math.min(count - 1, PACKETS_SHOWN - 1);
    if (depth > 0) await say(`   … and what the first CALL calls:`);
    for (let index = 0; index < shown; index++) await say(disassemble(frame, index));
    if (shown < count - 1) await say(`   … ${formatCount(count - 1 - shown)} more`);
    if (shown < count) await say(disassemble(frame, count - 1));
    if (depth > 0) return;
  }
}

async function countWords(
  pfs: PacketFS,
  output: Output,
  signal: AbortSignal,
  say: (text?: string) => Promise<void>,
): Promise<[string, number][]> {
  const progress = new Progress(output, "   word-count");
  const { value, statistics } = await pfs.run({ path: PROGRAM }, [FILE], {
    signal,
    onEvent: (event) => {
      if (event.kind !== "progress") return;
      progress.update(
        event.doneBytes,
        event.inputBytes,
        `${formatCount(event.done)}/${plural(event.tasks, "packet")}`,
      );
    },
  });
  progress.end();
  const counted = value as [string, number][];
  const total = counted.reduce((sum, [, count]) => sum + count, 0);
  const nodes = Object.entries(statistics.byNode).map(([label, packets]) => `${packets} on ${label}`);
  await say(
    `   ${formatCount(total)} words, ${formatCount(counted.length)} distinct, in ${formatDuration(statistics.milliseconds)}`,
  );
  await say(`   ${plural(statistics.tasks, "packet")}: ${nodes.join(", ")}`);
  // Brackets and signs are counted as words too, and nobody is curious about those.
  const spoken = counted.filter(([word]) => /^\p{L}+$/u.test(word));
  const top = spoken.toSorted((a, b) => b[1] - a[1]).slice(0, WORDS_SHOWN);
  for (const [word, count] of top) await say(`   ${formatCount(count).padStart(10)}  ${word}`);
  return counted;
}

function since(start: number): string {
  return formatDuration(performance.now() - start);
}

function tick(isGood: boolean): string {
  return isGood
    ? styleText("green", "✓ equal", { stream: process.stdout })
    : styleText("red", "✗ different", { stream: process.stdout });
}
