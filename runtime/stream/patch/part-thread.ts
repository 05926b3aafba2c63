/** A thread that writes parts of patches. */
import { parentPort } from "node:worker_threads";
import { PATCH_PART_BYTES_MAX } from "../../../packets/limits.ts";
import { encodePart, scratchBytes } from "../../../packets/patch.ts";
import type { EncodedPart, PartToEncode } from "./part-threads.ts";

const port = parentPort!;
const scratch = new Uint8Array(scratchBytes(PATCH_PART_BYTES_MAX));

port.on("message", ({ id, plain, dictionary }: PartToEncode) => {
  const encoded = encodePart(plain, dictionary, scratch);
  // Without the rest of the memory in which zlib wrote it.
  const frame = encoded && new Uint8Array(encoded);
  port.postMessage({ id, frame } satisfies EncodedPart, frame === undefined ? [] : [frame.buffer]);
});
