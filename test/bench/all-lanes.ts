/**
 * all-lanes.ts KIND STORE COUNT PROGRAMS: loads so many lanes with so many different programs and has each run a packet, in a
 * process of its own, and its executors' processes. KIND is "code", "js" or "wasm"; or "instances", which are no lanes: so many
 * instances of one compiled program of packet code over one memory, each called once. Prints the CPU time and the memory that it
 * took, all processes together.
 */
import { fileURLToPath } from "node:url";
import { compileCode } from "../../packets/code/compiler/compiler.ts";
import { compileModule, instantiate, makeMemory } from "../../packets/code/engine.ts";
import type { Run } from "../../packets/code/engine.ts";
import { decodeCode } from "../../packets/code/format.ts";
import { refToHex } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { Op } from "../../packets/layout.ts";
import { encodeFrame, opAt, packetCount } from "../../packets/packet.ts";
import type { InlineCode, Lane, LaneListener } from "../../runtime/contracts/executor.ts";
import { Machine } from "../../runtime/machine.ts";
import { encodeManifest } from "../../runtime/program/manifest.ts";
import { ingest } from "../../runtime/stream/ingest.ts";
import { match } from "../../sdk/code/builders.ts";
import { bundleProgram } from "../../sdk/programs/bundle.ts";
import { programCode } from "../program-code.ts";
import { execStream } from "../suites/exec-packets.ts";
import { treeUse } from "./cpu-time.ts";

export interface AllLanes {
  readonly cpuSeconds: number;
  readonly mebibytes: number;
}

const TEXT = "abc aab\nabd\n";
const PAGE_BYTES = 4096;
/** Where the records of a module's memory begin. */
const FIRST_RECORD = 1024 * 1024;
const MODULE = fileURLToPath(new URL("../../examples/wasm/count-words.ts", import.meta.url));

/** Three letters. */
function wordOf(index: number): string {
  return String.fromCharCode(...[676, 26, 1].map((each) => 97 + (Math.floor(index / each) % 26)));
}

/** Programs of JavaScript, or of WebAssembly and the JavaScript that calls it. Each is another one, and all say the same of themselves. */
async function manifestsOf(machine: Machine, kind: "js" | "wasm", programs: number): Promise<Ref[]> {
  await using writer = await machine.store.openWriter();
  const module = kind === "wasm" ? Buffer.from((await bundleProgram({ path: MODULE })).code).toString() : "";
  const codeOf = (index: number): Uint8Array =>
    programCode(
      kind === "wasm"
        ? `${module}\n// ${index}`
        : `export default { input: { kind: "lines" }, combine: (a, b) => a + b, map: (line) => line.split("${wordOf(index)}").length - 1 };`,
    );
  const manifests: Ref[] = [];
  let description: Awaited<ReturnType<Machine["inspect"]>> | undefined;
  for (let index = 0; index < programs; index++) {
    async function* bytes(): AsyncGenerator<Uint8Array> {
      yield codeOf(index);
    }
    const { root: code } = await ingest(writer, bytes());
    description ??= await machine.inspect(code);
    const manifest = Uint8Array.from(
      encodeManifest({
        version: 1,
        kind: "js",
        name: `${kind} ${index}`,
        code: refToHex(code),
        entry: "map",
        description,
        args: "null",
      }),
    );
    const { refs } = await writer.write(manifest, Uint32Array.of(manifest.byteLength));
    manifests.push(refs);
  }
  await writer.flush();
  return manifests;
}

function codesOf(programs: number): InlineCode[] {
  return Array.from({ length: programs }, (_, index) => ({ inline: match(wordOf(index)).packetCode }));
}

async function run(
  machine: Machine,
  programs: readonly (Ref | InlineCode)[],
  root: Ref,
  count: number,
): Promise<Lane[]> {
  const kind = "inline" in programs[0]! ? "code" : "js";
  const executor = machine.executors.find(({ capacity }) => capacity[kind] !== undefined)!;
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
    loaded.push(await executor.load(programs[index % programs.length]!, listener, never));
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
  const { residentBytes } = treeUse();
  const wanted =
    kind === "js" || kind === "wasm" ? await manifestsOf(machine, kind, programs) : codesOf(programs);
  const { cpuSeconds } = treeUse();
  // Held until it is measured.
  const held = kind === "instances" ? instances(count) : await run(machine, wanted, root, count);
  const after = treeUse();
  const more = Math.max(PAGE_BYTES, after.residentBytes - residentBytes);
  const result: AllLanes = {
    cpuSeconds: after.cpuSeconds - cpuSeconds,
    mebibytes: more / 1024 ** 2,
  };
  if (held.length !== count) throw new Error("some are gone");
  console.log(JSON.stringify(result));
}
