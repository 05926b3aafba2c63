/**
 * PacketFS from a program of your own: store a file, compute on it, read a range of it back.
 *
 *   node examples/use-from-typescript.ts [DIRECTORY]
 */
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { hasCode, openLocal } from "packetfs";

const directory = process.argv[2] ?? (await mkdtemp(join(tmpdir(), "packetfs-example-")));
const wordCount = { path: fileURLToPath(new URL("./word-count.ts", import.meta.url)) };

// Closes the store when the program leaves this block, whatever happens in it.
await using pfs = await openLocal(directory);

const text = "the quick brown fox jumps over the lazy dog and the dog sleeps\n".repeat(100_000);
const stored = await pfs.put(Buffer.from(text), { name: "fox.txt" });
console.log(`stored ${stored.length} bytes as ${stored.root.slice(0, 12)}…, ${stored.storedBytes} at rest`);

const result = await pfs.run(wordCount, ["fox.txt"], {
  onEvent: (event) => {
    if (event.kind === "progress") console.log(`  ${event.done} of ${event.tasks} packets done`);
  },
});
console.log("words:", result.value);

let start = "";
for await (const bytes of pfs.get("fox.txt", { range: { start: 4, end: 19 } })) {
  start += Buffer.from(bytes).toString();
}
console.log("bytes 4 to 19:", start);

try {
  await pfs.stat("no-such-file.txt");
} catch (error) {
  if (!hasCode(error, "PFS_NOT_FOUND")) throw error;
  console.log("as expected:", error.message);
}
