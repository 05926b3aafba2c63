/** The writer's connection to the index, and how it gets a new one when the old one turns out to be damaged. */
import { diskError } from "../disk.ts";
import { isIndexDamage, openIndexForWriting } from "./index-database.ts";
import { IndexTables } from "./index-tables.ts";
import { rebuildIndex } from "./rebuild.ts";
import type { StorePaths } from "../store-directory.ts";

export interface IndexKeeperOptions {
  readonly paths: StorePaths;
  readonly seed: number;
  readonly tables: IndexTables;
  /** Resolves when what was appended is on the disk: an index must not know of anything else. */
  readonly settle: () => Promise<unknown>;
  readonly onRepaired: (generation: number, note: string) => void;
}

export class IndexKeeper {
  readonly #options: IndexKeeperOptions;
  #tables: IndexTables;
  #generation = 0;
  #repairing: Promise<void> | undefined;

  constructor(options: IndexKeeperOptions) {
    this.#options = options;
    this.#tables = options.tables;
  }

  get tables(): IndexTables {
    return this.#tables;
  }

  /** Runs `work`; once more when it came upon a damaged index. What it rejects with is an error for the world. */
  async attempt<T>(work: () => Promise<T>): Promise<T> {
    const generation = this.#generation;
    try {
      return await work();
    } catch (error) {
      if (!isIndexDamage(error)) throw diskError(error);
    }
    try {
      await this.repair(generation);
      return await work();
    } catch (error) {
      throw diskError(error);
    }
  }

  /** Builds the index again, unless that has been done since it had this generation. */
  async repair(generation: number): Promise<void> {
    if (generation !== this.#generation) return;
    this.#repairing ??= this.#rebuild().finally(() => (this.#repairing = undefined));
    await this.#repairing;
  }

  async #rebuild(): Promise<void> {
    const { paths, seed, settle, onRepaired } = this.#options;
    await settle();
    this.#tables.close();
    rebuildIndex(paths, seed);
    this.#tables = new IndexTables(openIndexForWriting(paths.index));
    this.#generation++;
    onRepaired(this.#generation, "the index was found damaged and was built again from the segments");
  }
}
