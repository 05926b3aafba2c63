/** Two lists of entries side by side, in the order that both have: what is in one, in the other, or in both. */
import type { TreeEntry } from "../../packets/tree.ts";

/** Indexes into the lists; -1 where a path is in one of them alone. */
export interface Pair {
  readonly left: number;
  readonly right: number;
}

export function* sideBySide(
  left: readonly TreeEntry[],
  right: readonly TreeEntry[],
): Generator<Pair, void, undefined> {
  const a = new Keys(left);
  const b = new Keys(right);
  while (a.key !== undefined || b.key !== undefined) {
    const order = compare(a.key, b.key);
    yield { left: order <= 0 ? a.index : -1, right: order >= 0 ? b.index : -1 };
    if (order <= 0) a.advance();
    if (order >= 0) b.advance();
  }
}

/** What has no more comes last. */
function compare(a: string | undefined, b: string | undefined): number {
  if (a === b) return 0;
  if (a === undefined) return 1;
  if (b === undefined) return -1;
  return a < b ? -1 : 1;
}

/** The paths of a list one after the other, spelled so that strings compare as the entries stand: names end in a zero byte. */
class Keys {
  index = 0;
  key: string | undefined;
  readonly #entries: readonly TreeEntry[];
  readonly #above: string[] = [];

  constructor(entries: readonly TreeEntry[]) {
    this.#entries = entries;
    this.#settle();
  }

  advance(): void {
    this.index++;
    this.#settle();
  }

  #settle(): void {
    const entry = this.#entries[this.index];
    if (entry === undefined) this.key = undefined;
    else if (entry.depth === 0) this.key = "";
    else {
      const { depth, name } = entry;
      this.key = depth === 1 ? name : `${this.#above[depth - 1]!}\0${name}`;
      this.#above[depth] = this.key;
    }
  }
}

/** The names of each entry's path as one goes through a list in its order. */
export class PathNames {
  readonly names: string[] = [];

  /** The names of this entry's path; what was given before has changed then. */
  at({ depth, name }: Pick<TreeEntry, "depth" | "name">): readonly string[] {
    this.names.length = Math.max(0, depth - 1);
    if (depth > 0) this.names.push(name);
    return this.names;
  }
}
