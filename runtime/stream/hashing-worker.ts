/** A thread that hashes. */
import { parentPort } from "node:worker_threads";
import { refsOf } from "../block.ts";
import type { Block } from "../block.ts";
import type { HashedBlock } from "./hashing-sink.ts";

parentPort!.on("message", (block: Block) => {
  const { buffer } = block.block;
  const hashed: HashedBlock = { refs: refsOf(block), buffer };
  parentPort!.postMessage(hashed, [buffer]);
});
