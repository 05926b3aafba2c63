/** Remembers files in an index until it has remembered them all: node index-child.ts DIRECTORY FILES… */
import { sha256 } from "../../../packets/digest.ts";
import { FileIndex, seeFile } from "../../../sdk/memory/file-index.ts";

const [directory, ...paths] = process.argv.slice(2);
using index = await FileIndex.open(directory!);
process.stdout.write("ready\n");
for (const path of paths) {
  // What another process holds up for long is forgotten: here it is wanted all the same.
  while (!(await index.remember((await seeFile(path))!, sha256(Buffer.from(path)))));
}
