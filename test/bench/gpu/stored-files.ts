/** Files of workloads in a store, each written and stored once, when it is first asked for. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { PacketFS } from "../../../sdk/packetfs.ts";
import { bundleProgram } from "../../../sdk/programs/bundle.ts";
import type { File } from "./workloads.ts";

export class StoredFiles {
  readonly #pfs: PacketFS;
  readonly #directory: string;
  readonly #roots = new Map<string, string>();

  /** Files are written to `directory` first. */
  constructor(pfs: PacketFS, directory: string) {
    this.#pfs = pfs;
    this.#directory = directory;
  }

  /** The root of a file: those of one name and length are the same. */
  async rootOf(file: File): Promise<string> {
    return await this.#once(`${file.name} ${file.bytes}`, async (name) => {
      const path = join(this.#directory, "file");
      file.write(path);
      const { root } = await this.#pfs.put({ path }, { name });
      rmSync(path);
      return root;
    });
  }

  /** The root of the code that a program is made of. */
  async codeOf(program: { readonly path: string } | { readonly source: string }): Promise<string> {
    return await this.#once(JSON.stringify(program), async (name) => {
      const { code } = await bundleProgram(program);
      const { root } = await this.#pfs.put(code, { name });
      return root;
    });
  }

  async #once(what: string, store: (name: string) => Promise<string>): Promise<string> {
    const known = this.#roots.get(what);
    if (known !== undefined) return known;
    const root = await store(`bench-${this.#roots.size}`);
    this.#roots.set(what, root);
    return root;
  }
}
