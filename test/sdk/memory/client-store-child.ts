/** Keeps files in a client's store, and says the root of each, until it is killed: node client-store-child.ts DIRECTORY SEED */
import { writeSync } from "node:fs";
import { refToHex } from "../../../packets/digest.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { ClientStore } from "../../../sdk/memory/client-store.ts";
import { inPieces, randomBytes } from "../../runtime/store/store-fixture.ts";

const [directory = "", seed = ""] = process.argv.slice(2);
const cache = new ClientStore({ directory });
for (let index = 0; ; index++) {
  const bytes = randomBytes(`${seed} ${index}`, 300_000);
  await using kept = await cache.open(bytes.byteLength, []);
  if (kept?.writer === undefined) {
    writeSync(1, "without\n");
    continue;
  }
  const { root } = await ingest(kept.writer, inPieces(bytes, 100_000));
  await kept.keep(root, bytes.byteLength);
  writeSync(1, `${refToHex(root)}\n`);
}
