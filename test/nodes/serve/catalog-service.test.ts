/** A removal frees elsewhere what it removed here, and nothing else, whatever is bound meanwhile. */
import { expect, test } from "vitest";
import { CatalogService } from "../../../nodes/serve/catalog-service.ts";
import { PutWriters } from "../../../nodes/serve/chunk-service.ts";
import { LastingLink } from "../../../nodes/remote/lasting-link.ts";
import { RemoteCatalog } from "../../../nodes/remote/remote-catalog.ts";
import { serve } from "../../../nodes/serve/service.ts";
import type { Catalog, NameRecord } from "../../../runtime/contracts/catalog.ts";
import { Store } from "../../../runtime/store/store.ts";
import { put, randomBytes, temporaryDirectory } from "../../runtime/store/store-fixture.ts";
import { memoryPair } from "../wire/memory-pair.ts";

test("a name that is bound anew while it is removed", async () => {
  await using directory = await temporaryDirectory();
  await using store = await Store.open(directory.path);
  await put(store, "file", randomBytes("old", 1000));
  let looks = 0;
  const { catalog } = store;
  /** The names of the store, of which one is bound anew as soon as it was looked up. */
  const racing: Catalog = {
    resolve: (name) => catalog.resolve(name),
    history: async (name) => {
      const versions = await catalog.history(name);
      if (looks++ === 0) await put(store, "file", randomBytes("new", 2000));
      return versions;
    },
    findRoots: (digits, limit) => catalog.findRoots(digits, limit),
    list: (prefix, after) => catalog.list(prefix, after),
    bind: (binding, condition) => catalog.bind(binding, condition),
    remove: (name, condition) => catalog.remove(name, condition),
  };
  const removed: (readonly NameRecord[])[] = [];
  const { near, far } = memoryPair({ near: { role: "client" } });
  serve(far, [
    new CatalogService({
      store,
      catalog: racing,
      source: store,
      hasAnywhere: (refs) => store.has(refs),
      puts: new PutWriters(() => store.openWriter()),
      removed: async (_name, versions) => void removed.push(versions),
    }),
  ]);
  const remote = new RemoteCatalog(LastingLink.over(near));
  expect(await remote.remove("file")).toBe(true);
  expect(removed).toMatchObject([
    [
      { version: 2, length: 2000 },
      { version: 1, length: 1000 },
    ],
  ]);
  expect(await catalog.resolve("file")).toBeUndefined();
  await put(store, "file", randomBytes("third", 3000));
  looks = 0;
  const changed = { code: "PFS_NAME_CHANGED", data: { name: "file", expected: 1, version: 2 } };
  await expect(remote.remove("file", { expected: 1 })).rejects.toMatchObject(changed);
  expect(removed).toHaveLength(1);
  await near.close();
});
