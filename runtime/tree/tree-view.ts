/** A directory of a stored tree as if it were the whole of one, without what a filter leaves out. */
import { TreeType } from "../../packets/tree.ts";
import type { TreeEntry } from "../../packets/tree.ts";
import type { TreeFilter } from "./filter.ts";
import type { StoredTree } from "./stored-tree.ts";
import { PathNames } from "./tree-order.ts";

export interface ViewedEntry {
  /** Its depth counts from the directory on; a hard link names an entry of the view. */
  readonly entry: TreeEntry;
  /** The file of the stored tree whose bytes it has; -1 where it has none. */
  readonly file: number;
}

/** The directory `top` and what is below it; of a hard link whose file is not among that, the first one is a file. */
export function viewOf(tree: StoredTree, top: number, filter: TreeFilter): ViewedEntry[] {
  const { entries } = tree.manifest;
  const view: ViewedEntry[] = [];
  /** By the files of the tree, where they stand in the view. */
  const places = new Map<number, number>();
  const paths = new PathNames();
  const base = entries[top]!.depth;
  const end = tree.endOf(top);
  let leftOut = Infinity;
  for (let index = top; index < end; index++) {
    const old = entries[index]!;
    const depth = old.depth - base;
    if (depth > leftOut) continue;
    leftOut = Infinity;
    const name = depth === 0 ? "" : old.name;
    const names = paths.at({ depth, name });
    if (depth > 0 && !filter.takes(names.join("/"), old.type === TreeType.DIRECTORY)) {
      leftOut = depth;
      continue;
    }
    const file = tree.fileOf(index);
    const place = file === undefined ? undefined : places.get(file);
    if (file !== undefined && place === undefined) places.set(file, view.length);
    view.push({
      entry:
        file === undefined
          ? { ...old, depth, name }
          : place === undefined
            ? { ...entries[file]!, depth, name }
            : { ...old, depth, name, link: place },
      file: file ?? -1,
    });
  }
  return view;
}
