/** A store and a writer of it for the tests of a file, with a directory beside them for files; gone after the tests. */
import { join } from "node:path";
import { afterAll } from "vitest";
import type { StoreWriter } from "../../../runtime/contracts/chunks.ts";
import { Store } from "../../../runtime/store/store.ts";
import { temporaryDirectory } from "../store/store-fixture.ts";

export interface OpenStore {
  readonly directory: string;
  readonly store: Store;
  readonly writer: StoreWriter;
}

export async function openStore(): Promise<OpenStore> {
  const directory = await temporaryDirectory();
  const store = await Store.open(join(directory.path, "store"));
  const writer = await store.openWriter();
  afterAll(async () => {
    await store.close();
    await directory[Symbol.asyncDispose]();
  });
  return { directory: directory.path, store, writer };
}
