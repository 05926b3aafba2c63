/**
 * Streams so many packets through a loaded program and prints how many bytes of buffers were alive at each eighth of them.
 * To be run with --expose-gc.
 */
import { Op } from "../../packets/layout.ts";
import { decodePacket, encodeFrame, opAt, packetCount } from "../../packets/packet.ts";
import { openLocal } from "../../sdk/index.ts";

const [directory, packets] = [process.argv[2]!, Number(process.argv[3])];
const FRAME_PACKETS = 1024;

await using pfs = await openLocal(directory, { workers: 2 });
await pfs.put(
  new Uint8Array(64).map((_, index) => index),
  { name: "input" },
);
let ref = new Uint8Array(0);
for await (const { frame } of pfs.packets("input")) ref = decodePacket(frame, 0).ref.slice();
await using program = await pfs.load({
  source: `import { bytes, defineProgram } from "packetfs";
    export default defineProgram({ input: bytes(), yields: "bytes", map: () => undefined });`,
});
const fields = { op: Op.EXEC, lane: 1, length: 64, ref };
const frames = Math.ceil(packets / FRAME_PACKETS);
const samples: number[] = [];
let answered = 0;
let read = 0;
function* source(): Generator<Uint8Array> {
  for (let frame = 0; frame < frames; frame++)
    yield encodeFrame(Array.from({ length: FRAME_PACKETS }, () => fields));
}
for await (const answers of program.exec(source())) {
  for (let index = 0; index < packetCount(answers); index++)
    answered += opAt(answers, index) === Op.RETURN ? 1 : 0;
  if (++read % Math.floor(frames / 8) !== 0) continue;
  // Buffers are freed in a turn of their own after they were found to be garbage.
  for (let turn = 0; turn < 3; turn++) {
    globalThis.gc!();
    await new Promise((resolve) => setImmediate(resolve));
  }
  samples.push(process.memoryUsage().arrayBuffers);
}
console.log(JSON.stringify({ answered, samples }));
