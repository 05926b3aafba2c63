/** A directory as it is stored: its manifest, and the bytes of its files. */
import type { Ref } from "../../packets/digest.ts";
import { refToHex } from "../../packets/digest.ts";
import { TREE_HEADER_BYTES, TreeType, decodeTreeInSteps, treeExtent, treePath } from "../../packets/tree.ts";
import type { TreeEntry, TreeManifest } from "../../packets/tree.ts";
import type { ChunkPlacer, ChunkSource } from "../contracts/chunks.ts";
import { TreeError, TreeErrorCode } from "../errors.ts";
import { describeStream, execute } from "../stream/execute.ts";
import { inTurns } from "../turns.ts";
import { textOf } from "./text.ts";

export class StoredTree {
  readonly root: Ref;
  readonly manifest: TreeManifest;
  readonly #source: ChunkSource;

  private constructor(source: ChunkSource, root: Ref, manifest: TreeManifest) {
    this.#source = source;
    this.root = root;
    this.manifest = manifest;
  }

  /**
   * Reads the manifest. Rejects with PFS_NOT_A_TREE {file} for a stream of something else, PFS_TREE_INVALID {reason, entry}, and
   * as reading streams does.
   */
  static async open(source: ChunkSource, root: Ref, signal?: AbortSignal): Promise<StoredTree> {
    const { isTree, length = 0 } = await describeStream(source, root, signal);
    if (!isTree) {
      const file = refToHex(root);
      throw new TreeError(TreeErrorCode.notTree, `${file} is a file, and no directory`, { file });
    }
    const header = new Uint8Array(Math.min(length, TREE_HEADER_BYTES));
    await fill(header, execute(source, root, { end: header.byteLength, signal }));
    const { bytes, contentBytes } = treeExtent(header);
    if (bytes + contentBytes !== length) throw unlike();
    const encoded = new Uint8Array(bytes);
    await fill(encoded, execute(source, root, { end: bytes, signal }));
    const manifest = await inTurns(decodeTreeInSteps(encoded));
    return new StoredTree(source, root, manifest);
  }

  get source(): ChunkSource {
    return this.#source;
  }

  /** The source, whether it can write to files itself or not. */
  get placer(): ChunkPlacer {
    const source: ChunkSource & Partial<ChunkPlacer> = this.#source;
    return {
      read: (refs, signal) => source.read(refs, signal),
      place: async (...what) => (await source.place?.(...what)) ?? false,
    };
  }

  /** The same, whose files are read elsewhere. */
  from(source: ChunkSource): StoredTree {
    return new StoredTree(source, this.root, this.manifest);
  }

  /** The index of the entry with this path, in bytes; undefined where there is none. A slash at its end is of no importance. */
  find(path: string): number | undefined {
    const names = path.split("/").filter((name) => name !== "");
    const { entries } = this.manifest;
    let at = 0;
    for (const [above, name] of names.entries()) {
      const depth = above + 1;
      let found: number | undefined;
      for (let index = at + 1; index < entries.length && entries[index]!.depth > above; index++) {
        if (entries[index]!.depth !== depth || entries[index]!.name !== name) continue;
        found = index;
        break;
      }
      if (found === undefined) return undefined;
      at = found;
    }
    return at;
  }

  /** The path of an entry, in bytes. */
  pathOf(index: number): string {
    return treePath(this.manifest, index);
  }

  /** The entries in a directory and below it: from its own index to this one, which is not among them. */
  endOf(index: number): number {
    const { entries } = this.manifest;
    let end = index + 1;
    while (end < entries.length && entries[end]!.depth > entries[index]!.depth) end++;
    return end;
  }

  /** The file that an entry is, itself or as a hard link; undefined for others. */
  fileOf(index: number): number | undefined {
    const { type, link } = this.manifest.entries[index]!;
    return type === TreeType.FILE ? index : type === TreeType.LINK ? link : undefined;
  }

  /** Where a file's bytes begin in what the root yields, and how many there are. Throws PFS_NOT_FOUND for what is no file. */
  extentOf(
    index: number,
    path: string,
  ): { readonly at: number; readonly length: number; readonly entry: TreeEntry } {
    const file = this.fileOf(index);
    if (file === undefined) {
      const shown = textOf(path);
      const { type } = this.manifest.entries[index]!;
      const what = type === TreeType.DIRECTORY ? "a directory" : "a symbolic link";
      throw new TreeError(TreeErrorCode.notFound, `${shown} is ${what}, and no file`, { file: shown });
    }
    const entry = this.manifest.entries[file]!;
    return { at: this.manifest.at[file]!, length: entry.length, entry };
  }

  /** Bytes `start` to `end` of what the root yields, verified. Rejects as executing it does. */
  bytes(
    start: number,
    end: number,
    signal?: AbortSignal,
    readAheadBytes?: number,
  ): AsyncGenerator<Uint8Array> {
    return execute(this.#source, this.root, { start, end, signal, readAheadBytes });
  }

  /** Fills `target` with the bytes from `start` on, verified. Rejects as executing it does. */
  async read(start: number, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    await fill(target, this.bytes(start, start + target.byteLength, signal, target.byteLength));
  }
}

async function fill(target: Uint8Array, pieces: AsyncIterable<Uint8Array>): Promise<void> {
  let at = 0;
  for await (const piece of pieces) {
    target.set(piece, at);
    at += piece.byteLength;
  }
}

function unlike(): TreeError {
  const reason = "its stream has another length than it says";
  return new TreeError(TreeErrorCode.invalid, `this is no manifest of a directory: ${reason}`, {
    reason,
    entry: 0,
  });
}
