/** pfs packets: the disassembler. What a stream calls stands indented below its CALL packet. */
import { styleText } from "node:util";
import { Command } from "commander";
import { disassemble, packetToJson } from "../../packets/disassemble.ts";
import { refFromHex, sameBytes } from "../../packets/digest.ts";
import { Op } from "../../packets/layout.ts";
import { opAt, packetCount, refOf } from "../../packets/packet.ts";
import type { StreamPart } from "../packetfs.ts";
import { formatCount, printable } from "./format.ts";
import { example } from "./help.ts";
import { statStored } from "./names.ts";
import { FILE_OPERAND, option, wholeNumber } from "./options.ts";
import type { Output } from "./output.ts";
import { jsonText } from "./output.ts";
import { onRun } from "./context.ts";
import type { Host, Context } from "./context.ts";

interface PacketsCommandOptions {
  readonly depth?: number;
  readonly limit?: number;
}

const REF_DIGITS = 12;
const INDENT = "    ";

export function packetsCommand(host: Host): Command {
  const command = new Command("packets")
    .summary("show the packets that a file is made of")
    .description(
      "Show the packets that a stored file is made of. A CALL runs another stream as a subroutine: its packets stand indented below it, and their positions count from its start.",
    )
    .argument("<NAME>", FILE_OPERAND)
    .addOption(
      option(
        "--depth <N>",
        "follow CALLs this deep; 0 shows the top stream alone",
        "PACKETFS_DEPTH",
        wholeNumber(0),
      ),
    )
    .addOption(option("--limit <N>", "stop after this many packets", "PACKETFS_LIMIT", wholeNumber(0)))
    .addHelpText("after", example("pfs packets access.log --depth 1 --limit 100"));
  return onRun<PacketsCommandOptions>(command, host, showPackets);
}

async function showPackets(
  context: Context,
  [file = ""]: readonly string[],
  { depth = Number.POSITIVE_INFINITY, limit = Number.POSITIVE_INFINITY }: PacketsCommandOptions,
): Promise<void> {
  const { output, signal } = context;
  const pfs = await context.open();
  const { name, root, length } = await statStored(pfs, file);
  if (output.json) await output.object({ name, root, length });
  else await output.line(`${printable(file)}: ${formatCount(length)} bytes, root ${root}`);
  const listing = new Listing(output, limit);
  for await (const part of pfs.packets(root)) {
    signal.throwIfAborted();
    if (part.depth > depth) {
      if (depth === 0) break;
      continue;
    }
    await listing.add(part);
    if (listing.isFull) break;
  }
  await listing.end();
}

interface Level {
  readonly part: StreamPart;
  /** The next packet to show. */
  next: number;
}

/**
 * Puts parts, each followed by those it calls, into the order in which they run: a stream is shown up to the CALL that
 * brings the next part, and goes on when that part has ended.
 */
class Listing {
  readonly #output: Output;
  readonly #levels: Level[] = [];
  #room: number;

  constructor(output: Output, limit: number) {
    this.#output = output;
    this.#room = limit;
  }

  get isFull(): boolean {
    return this.#room <= 0 || this.#output.readerGone.aborted;
  }

  async add(part: StreamPart): Promise<void> {
    await this.#endLevels(part.depth);
    const parent = this.#levels.at(-1);
    if (parent !== undefined) await this.#show(parent, indexAfterCall(parent, part.ref));
    this.#levels.push({ part, next: 0 });
    if (parent === undefined || this.#output.json || this.isFull) return;
    const text = `${INDENT.repeat(part.depth)}stream ${part.ref.slice(0, REF_DIGITS)}… at byte ${formatCount(part.at)}`;
    await this.#output.line(styleText("dim", text, { stream: process.stdout }));
  }

  async end(): Promise<void> {
    await this.#endLevels(0);
    if (this.#room <= 0) this.#output.talk("… (--limit)");
  }

  async #endLevels(depth: number): Promise<void> {
    while (this.#levels.length > depth) {
      const level = this.#levels.pop()!;
      await this.#show(level, packetCount(level.part.frame));
    }
  }

  /** Shows a level's packets up to `end`. */
  async #show(level: Level, end: number): Promise<void> {
    const { frame, depth, ref } = level.part;
    const indent = INDENT.repeat(depth);
    let text = "";
    for (; level.next < end && this.#room > 0; level.next++, this.#room--) {
      text += this.#output.json
        ? jsonText({ depth, in: ref, ...packetToJson(frame, level.next) })
        : indent + disassemble(frame, level.next, REF_DIGITS);
      text += "\n";
    }
    if (text !== "") await this.#output.write(text);
  }
}

/** The index behind the next CALL of the stream `ref`. */
function indexAfterCall({ part, next }: Level, ref: string): number {
  const called = refFromHex(ref);
  const count = packetCount(part.frame);
  for (let index = next; index < count; index++) {
    const isCall = opAt(part.frame, index) === Op.CALL;
    if (isCall && called !== undefined && sameBytes(refOf(part.frame, index), called)) return index + 1;
  }
  return next;
}
