/** Which chunks are somewhere among a machine and its peers. */
import { REF_BYTES } from "../../packets/layout.ts";
import type { RemoteChunks } from "./remote-chunks.ts";

export interface AnywhereOptions {
  readonly store: { has(refs: Uint8Array): Uint8Array };
  readonly peers: () => Promise<readonly RemoteChunks[]>;
}

/** One byte (0 or 1) per ref. A peer that does not answer has nothing. */
export async function hasAnywhere({ store, peers }: AnywhereOptions, refs: Uint8Array): Promise<Uint8Array> {
  const found = Uint8Array.from(store.has(refs));
  for (const peer of await peers()) {
    const open = indexesOf(found, 0);
    if (open.length === 0) break;
    const asked = new Uint8Array(open.length * REF_BYTES);
    open.forEach((index, position) => {
      asked.set(refs.subarray(index * REF_BYTES, (index + 1) * REF_BYTES), position * REF_BYTES);
    });
    const there = await peer.has(asked).catch(() => new Uint8Array(open.length));
    open.forEach((index, position) => {
      if (there[position] === 1) found[index] = 1;
    });
  }
  return found;
}

function indexesOf(bytes: Uint8Array, value: number): number[] {
  const indexes: number[] = [];
  for (let index = bytes.indexOf(value); index !== -1; index = bytes.indexOf(value, index + 1))
    indexes.push(index);
  return indexes;
}
