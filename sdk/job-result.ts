/** A job's result as its caller has it: of any length, one part after the other. */
import { decodeGroups } from "../runtime/job/results.ts";
import { UsageError } from "./errors.ts";
import type { JobOutcome } from "../runtime/contracts/jobs.ts";
import type { JobResult } from "./packetfs.ts";

/** `read` gives the bytes of the file with that root. */
export function jobResult(outcome: JobOutcome, read: (root: string) => AsyncIterable<Uint8Array>): JobResult {
  const parts = (): AsyncGenerator => partsOf(outcome, read);
  // Nothing of the result that is to be seen, stored or compared.
  return Object.defineProperty(outcome, Symbol.asyncIterator, { value: parts }) as JobResult;
}

async function* partsOf(
  { yields, value, file }: JobOutcome,
  read: (root: string) => AsyncIterable<Uint8Array>,
): AsyncGenerator {
  if (file === undefined) {
    if (Array.isArray(value)) yield* value as unknown[];
    else yield value;
  } else if (yields === "bytes") yield* read(file.root);
  else if (yields === "groups" && file.name?.endsWith(".csv") !== true) yield* groupsOf(read(file.root));
  else throw new UsageError(`the result is stored as "${file.name}", which is read as a file`);
}

/** Whole lines of each piece are decoded together. */
async function* groupsOf(pieces: AsyncIterable<Uint8Array>): AsyncGenerator {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const piece of pieces) {
    const text = rest + decoder.decode(piece, { stream: true });
    const end = text.lastIndexOf("\n") + 1;
    rest = text.slice(end);
    yield* decodeGroups(text.slice(0, end));
  }
}
