/**
 * Under which names the holder of a key had results of jobs stored, and which: those names it may give to other results. Kept in a
 * file, since whose a name is must be known after a restart too.
 */
import { readFile } from "node:fs/promises";
import * as v from "valibot";
import { refToHex } from "../../packets/digest.ts";
import { replaceFile } from "../../runtime/durable-file.ts";
import type { NameRecord } from "../../runtime/contracts/catalog.ts";
import { systemCode } from "../../runtime/errors.ts";
import { RESULT_NAMES_PER_KEY_MAX } from "../limits.ts";

/** Pairs of a name and the root of its file as hexadecimal digits, the latest last. */
const resultsFile = v.array(v.tuple([v.string(), v.string()]));

export class ResultNames {
  readonly #path: string;
  #last: Promise<unknown> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
  }

  /** Whether what the name means now is what was stored under it last. Rejects as the system does. */
  async has({ name, root }: Pick<NameRecord, "name" | "root">): Promise<boolean> {
    return await this.#next(async () => (await this.#read()).get(name) === refToHex(root));
  }

  /** `root`: hexadecimal digits. The oldest names are forgotten beyond RESULT_NAMES_PER_KEY_MAX. Rejects as the system does. */
  async add(name: string, root: string): Promise<void> {
    await this.#next(async () => {
      const names = await this.#read();
      names.delete(name);
      names.set(name, root);
      const latest = [...names].slice(-RESULT_NAMES_PER_KEY_MAX);
      await replaceFile(this.#path, `${JSON.stringify(latest)}\n`);
    });
  }

  /** What cannot be understood says of no name that it is the key's. */
  async #read(): Promise<Map<string, string>> {
    try {
      return new Map(v.parse(resultsFile, JSON.parse(await readFile(this.#path, "utf8"))));
    } catch (error) {
      const system = systemCode(error);
      if (/^E[A-Z]+$/.test(system) && system !== "ENOENT") throw error;
      return new Map();
    }
  }

  async #next<Value>(work: () => Promise<Value>): Promise<Value> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => undefined);
    return await done;
  }
}
