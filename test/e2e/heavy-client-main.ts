/**
 * A client that asks its hub for much: it has so many requests under way, each of which takes the hub half a second to plan
 * or to look through, and begins another one for each that is done. Says "ready" when its file is there, begins when it
 * hears something, and goes on until it is killed; when the hub does not serve it any more, it ends.
 */
import { once } from "node:events";
import { sha256 } from "../../packets/digest.ts";
import { StreamWriter } from "../../packets/stream-writer.ts";
import { HubClient } from "../../nodes/remote/hub-client.ts";
import { JOBS_PER_KEY_MAX } from "../../nodes/limits.ts";
import { bundleProgram, PacketfsError } from "../../sdk/index.ts";

const [token = "", requests = ""] = process.argv.slice(2);
const SOURCE = `import { defineProgram, bytes } from "packetfs";
  export default defineProgram({ input: bytes(1), map: () => 1, combine: (a, b) => a + b });`;
/** CALLs of each stream, and how many streams stand above each other: 64 to the fifth are a billion bytes. */
const CALLS = 64;
const LEVELS = 4;
/** COPYs of a file that is given names: all of them are looked at each time. */
const WIDE = 100_000;

const hub = await HubClient.connect(token);
await using writer = await hub.data.openWriter();

async function put(bytes: Uint8Array): Promise<Uint8Array> {
  await writer.write(bytes.slice(), Uint32Array.of(bytes.byteLength));
  return sha256(bytes);
}

async function putStream(
  write: (stream: StreamWriter) => void,
): Promise<{ root: Uint8Array; length: number }> {
  const chunks: Uint8Array[] = [];
  const stream = new StreamWriter((_ref, bytes) => void chunks.push(bytes));
  write(stream);
  const { root, length } = stream.finish();
  for (const bytes of chunks) await put(bytes);
  return { root, length };
}

const byte = await put(Uint8Array.of(7));
let tower = await putStream((stream) => {
  for (let copy = 0; copy < CALLS; copy++) stream.copy(byte, 0, 1);
});
for (let level = 0; level < LEVELS; level++) {
  const { root, length } = tower;
  tower = await putStream((stream) => {
    for (let call = 0; call < CALLS; call++) stream.call(root, 0, length);
  });
}
await writer.bind({ name: "tower", ...tower });
const other = await put(Uint8Array.of(8));
const wide = await putStream((stream) => {
  for (let copy = 0; copy < WIDE; copy++) stream.copy(copy % 2 === 0 ? byte : other, 0, 1);
});
const { code } = await bundleProgram({ source: SOURCE });
const bundle = await put(code);
const { root: program } = await putStream((stream) => stream.copy(bundle, 0, code.byteLength));

async function name(index: number): Promise<void> {
  for (;;) await hub.data.catalog.bind({ name: `wide${index}`, ...wide });
}

async function plan(): Promise<void> {
  for (;;) {
    const planned = new AbortController();
    try {
      await hub.run({
        program: "count",
        code: program,
        files: ["tower"],
        signal: planned.signal,
        onEvent: () => planned.abort(),
      });
    } catch (error) {
      if (planned.signal.aborted) continue;
      if (!(error instanceof PacketfsError) || error.code !== "PFS_JOB_OVER_LIMIT") throw error;
    }
  }
}

console.log("ready");
await once(process.stdin, "data");
await Promise.all(
  Array.from({ length: Number(requests) }, (_, index) => (index < JOBS_PER_KEY_MAX ? plan() : name(index))),
);
