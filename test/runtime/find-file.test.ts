/** What a text stands for: a root its bytes, a name its latest version, NAME@3 its third, some digits the root they begin. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { refToHex, sha256 } from "../../packets/digest.ts";
import type { StoreWriter } from "../../runtime/contracts/chunks.ts";
import { findFile } from "../../runtime/find-file.ts";
import { Store } from "../../runtime/store/store.ts";
import { ingest } from "../../runtime/stream/ingest.ts";
import { inPieces, temporaryDirectory } from "./store/store-fixture.ts";

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let store: Store;
let writer: StoreWriter;

beforeAll(async () => {
  directory = await temporaryDirectory();
  store = await Store.open(directory.path);
  writer = await store.openWriter();
});
afterAll(async () => {
  await store.close();
  await directory[Symbol.asyncDispose]();
});

async function put(text: string, name?: string): Promise<string> {
  const { root, length } = await ingest(writer, inPieces(Buffer.from(text), 1000));
  if (name !== undefined) await writer.bind({ name, root, length });
  return refToHex(root);
}

async function found(file: string): Promise<string> {
  return refToHex((await findFile({ source: store, catalog: store.catalog }, file)).root);
}

test("64 digits are a root, in small or large letters, named or not, and what is not stored is not found", async () => {
  const root = await put("nameless");
  const record = await findFile({ source: store, catalog: store.catalog }, root.toUpperCase());
  expect(record).toMatchObject({ name: root, length: 8, version: 0 });
  for (const file of [refToHex(sha256(Buffer.from("nowhere"))), "nowhere", "", "../a", "\ud800"]) {
    await expect(found(file)).rejects.toMatchObject({ code: "PFS_NOT_FOUND", data: { file } });
  }
});

test("a root whose stream is here and is not right is no file that is not there", async () => {
  const bytes = new Uint8Array(65).fill(7);
  await writer.write(bytes.slice(), Uint32Array.of(65));
  await expect(found(refToHex(sha256(bytes)))).rejects.toMatchObject({ code: "PFS_STREAM_INVALID" });
});

test("a name is its latest version, and has the others behind an @, unless that is a name too", async () => {
  const roots = [await put("v1", "kept"), await put("v2", "kept"), await put("v3", "kept")];
  expect([await found("kept"), await found("kept@3"), await found("kept@1")]).toEqual([
    roots[2],
    roots[2],
    roots[0],
  ]);
  await expect(found("kept@4")).rejects.toThrow("there is 3, 2, 1");
  await expect(found("kept@0")).rejects.toMatchObject({ code: "PFS_NOT_FOUND" });
  const named = await put("named so", "kept@1");
  expect(await found("kept@1")).toBe(named);
});

test("eight digits are enough for a root that has a name, where no name has them and no other root", async () => {
  const root = await put("short", "short");
  expect(await found(root.slice(0, 8).toUpperCase())).toBe(root);
  await expect(found(root.slice(0, 7))).rejects.toMatchObject({ code: "PFS_NOT_FOUND" });
  const named = await put("in the way", root.slice(0, 9));
  expect(await found(root.slice(0, 9))).toBe(named);
});

test("digits that begin several roots are told, with those roots", async () => {
  const roots = [0xa0, 0xa1].map((last) => new Uint8Array(32).fill(0xab).fill(last, 31));
  const catalog = {
    resolve: async () => undefined,
    history: async () => [],
    findRoots: async () => roots.map((root) => ({ name: "n", root, length: 1, version: 1, storedAt: 0 })),
  };
  await expect(findFile({ source: store, catalog }, "abababab")).rejects.toMatchObject({
    code: "PFS_ROOT_AMBIGUOUS",
    data: { file: "abababab", candidates: roots.map(refToHex).join(" ") },
  });
});
