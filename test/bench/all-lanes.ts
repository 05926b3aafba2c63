/**
 * all-lanes.ts lanes|instances STORE COUNT PROGRAMS: loads so many lanes with so many different programs of packet code, or makes
 * as many instances of one of them, compiled, over one memory, and has each do one thing, in a process of its own. Prints the CPU
 * time and the memory that it took.
 */
import { compileCode } from "../../packets/code/compiler/compiler.ts";
import { compileModule, instantiate, makeMemory } from "../../packets/code/engine.ts";
import type { Run } from "../../packets/code/engine.ts";
import { decodeCode } from "../../packets/code/format.ts";
import { Op } from "../../packets/layout.ts";
import { encodeFrame, opAt, packetCount } from "../../packets/packet.ts";
import type { Ref } from "../../packets/digest.ts";
import type { Lane, LaneListener } from "../../runtime/contracts/executor.ts";
import { Machine } from "../../runtime/machine.ts";
import { ingest } from "../../runtime/stream/ingest.ts";
import { match } from "../../sdk/code/builders.ts";
import { execStream } from "../suites/exec-packets.ts";

export interface AllLanes {
  readonly cpuSeconds: number;
  readonly mebibytes: number;
}

const TEXT = "abc aab\nabd\n";
const PAGE_BYTES = 4096;
/** Where the records of a module's memory begin. */
const FIRST_RECORD = 1024 * 1024;

/** Three letters. */
function wordOf(index: number): string {
  return String.fromCharCode(...[676, 26, 1].map((each) => 97 + (Math.floor(index / each) % 26)));
}

async function lanes(machine: Machine, root: Ref, count: number, programs: number): Promise<Lane[]> {
  const executor = machine.executors.find(({ capacity }) => capacity.code !== undefined)!;
  const codes = Array.from({ length: programs }, (_, index) => ({ inline: match(wordOf(index)).packetCode }));
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let left = count;
  const listener: LaneListener = {
    returned: (frame) => {
      for (let index = 0; index < packetCount(frame); index++)
        if (opAt(frame, index) !== Op.RETURN) return reject(new Error("a packet failed"));
      left -= packetCount(frame);
      if (left === 0) resolve();
    },
    logged: () => undefined,
    noted: () => undefined,
    lost: reject,
  };
  const never = new AbortController().signal;
  const loaded: Lane[] = [];
  for (let index = 0; index < count; index++)
    loaded.push(await executor.load(codes[index % programs]!, listener, never));
  for (const [at, lane] of loaded.entries()) lane.exec(encodeFrame([execStream(at, root, 0, TEXT.length)]));
  await promise;
  return loaded;
}

/** Of one program, called on no bytes. */
function instances(count: number): Run[] {
  const pages = 32;
  const source = compileCode(decodeCode(match(wordOf(0)).packetCode), pages);
  if (source === undefined) throw new Error("this program is not compiled");
  const [module, memory] = [compileModule(source), makeMemory(pages)];
  const made = Array.from({ length: count }, () => instantiate(module, memory));
  for (const run of made) run(FIRST_RECORD, FIRST_RECORD);
  return made;
}

const [kind, directory, ...words] = process.argv.slice(2) as [string, string, string, string];
const [count, programs] = words.map(Number) as [number, number];
{
  await using machine = await Machine.open({ directory, id: "local", label: "local", workers: 1 });
  await using writer = await machine.store.openWriter();
  async function* text(): AsyncGenerator<Uint8Array> {
    yield new TextEncoder().encode(TEXT);
  }
  const { root } = await ingest(writer, text());
  await writer.flush();
  const [bytes, cpu] = [process.memoryUsage.rss(), process.cpuUsage()];
  // Held until it is measured.
  const held = kind === "lanes" ? await lanes(machine, root, count, programs) : instances(count);
  const { user, system } = process.cpuUsage(cpu);
  const more = Math.max(PAGE_BYTES, process.memoryUsage.rss() - bytes);
  const result: AllLanes = { cpuSeconds: (user + system) / 1e6, mebibytes: more / 1024 ** 2 };
  if (held.length !== count) throw new Error("some are gone");
  console.log(JSON.stringify(result));
}
