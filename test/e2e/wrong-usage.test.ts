/** What is asked for wrongly fails with a code that scripts can match and a sentence, and leaves no trace. */
import { copyFile, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import { makePlace } from "../sdk/cli/run-pfs.ts";
import type { Place } from "../sdk/cli/run-pfs.ts";
import { startHub } from "./daemon.ts";

const WORD_COUNT = fileURLToPath(new URL("../../examples/word-count.ts", import.meta.url));

interface Case {
  readonly words: readonly string[];
  readonly status: number;
  readonly code: string;
  readonly says: RegExp;
}

const RUN = ["run", "word-count.ts", "text.txt"];
/** In a place with a store that holds text.txt. */
const CASES: readonly Case[] = [
  { words: ["get", "nope", "-o", "out"], status: 3, code: "PFS_NOT_FOUND", says: /nope/ },
  { words: ["stat", "text.txt", "nope"], status: 3, code: "PFS_NOT_FOUND", says: /nope/ },
  { words: ["rm", "text.txt", "nope"], status: 3, code: "PFS_NOT_FOUND", says: /nope/ },
  { words: ["packets", "nope"], status: 3, code: "PFS_NOT_FOUND", says: /nope/ },
  { words: ["put", "nope.txt"], status: 3, code: "PFS_FILE_NOT_FOUND", says: /nope\.txt/ },
  { words: ["put", "text.txt", "--name", ".."], status: 2, code: "PFS_NAME_INVALID", says: /"\.\."/ },
  { words: ["put", "text.txt", "--name", "a/../b"], status: 2, code: "PFS_NAME_INVALID", says: /"\.\."/ },
  { words: ["get", "text.txt", "-o", "out", "--range", "9-3"], status: 2, code: "PFS_USAGE", says: /9-3/ },
  {
    words: ["get", "text.txt", "-o", "out", "--range", "9999999-"],
    status: 2,
    code: "PFS_USAGE",
    says: /448890/,
  },
  {
    words: ["get", "text.txt", "-o", "nowhere/out"],
    status: 3,
    code: "PFS_FILE_NOT_FOUND",
    says: /nowhere\/out/,
  },
  { words: [...RUN, "--args", "{oops"], status: 2, code: "PFS_USAGE", says: /--args is not JSON/ },
  { words: [...RUN, "--out", "../up"], status: 2, code: "PFS_NAME_INVALID", says: /"\.\.\/up"/ },
  { words: ["run", "word-count.ts", "nope", "--out", "out"], status: 3, code: "PFS_NOT_FOUND", says: /nope/ },
  { words: ["ls", "--at", "garbage"], status: 2, code: "PFS_TOKEN_INVALID", says: /client token/ },
  { words: ["join", "garbage"], status: 2, code: "PFS_TOKEN_INVALID", says: /join token/ },
  {
    words: ["put", "text.txt", "--store", "text.txt"],
    status: 1,
    code: "PFS_STORE_UNREADABLE",
    says: /text\.txt cannot be opened as a store/,
  },
  {
    words: ["put", "text.txt", "--store", "foreign"],
    status: 1,
    code: "PFS_STORE_UNREADABLE",
    says: /foreign cannot be opened as a store: the directory is not empty/,
  },
  {
    words: ["up", "--listen", "127.0.0.1:0", "--store", "foreign"],
    status: 1,
    code: "PFS_STORE_UNREADABLE",
    says: /foreign/,
  },
];

let place: Place;
beforeAll(async () => {
  place = await makePlace();
  await place.json(["put", "text.txt"]);
  await copyFile(WORD_COUNT, join(place.cwd, "word-count.ts"));
  await mkdir(join(place.cwd, "foreign"));
  await writeFile(join(place.cwd, "foreign", "note.txt"), "somebody's");
});

describe("asked wrongly", () => {
  describe.concurrent("for one thing", () => {
    it.each(CASES.map((each) => [each.words.join(" "), each] as const))("pfs %s", async (_, wrong) => {
      const { out, err, status } = await place.run([...wrong.words, "--json"]);
      expect({ status, err }).toEqual({ status: wrong.status, err: "" });
      expect(JSON.parse(out)).toEqual({
        schema: 1,
        error: {
          code: wrong.code,
          message: expect.stringMatching(wrong.says),
          data: expect.any(Object),
        },
      });
    });
  });

  it("leaves no file, no name and nobody's directory changed", async () => {
    const files = ["foreign", "store", "text.txt", "word-count.ts"];
    expect((await readdir(place.cwd)).toSorted((a, b) => (a < b ? -1 : 1))).toEqual(files);
    expect(await readdir(join(place.cwd, "foreign"))).toEqual(["note.txt"]);
    expect(await readFile(join(place.cwd, "foreign", "note.txt"), "utf8")).toBe("somebody's");
    expect((await place.json(["ls"])).map(({ name }) => name)).toEqual(["text.txt"]);
    expect(await place.json(["verify"])).toMatchObject([{ sound: true }]);
  });
});

describe.concurrent("what somebody else holds", () => {
  it("is not written to twice at once, but can be read", async () => {
    const { run, json } = await makePlace();
    await json(["put", "text.txt"]);
    let second: Awaited<ReturnType<typeof run>> | undefined;
    const first = await run(["put", "-", "--name", "first"], {
      keepsInputOpen: true,
      whileRunning: (child) => {
        child.stdin!.write("some bytes");
        void (async () => {
          // It writes as soon as it has taken the store, which others then wait for.
          do second = await run(["put", "text.txt", "--name", "second", "--json"]);
          while (second.status === 0);
          expect(await json(["ls", "text"])).toMatchObject([{ name: "text.txt" }]);
        })().finally(() => child.stdin!.end());
      },
    });
    expect(first.status).toBe(0);
    expect(second!.status).toBe(1);
    expect(JSON.parse(second!.out)).toMatchObject({ error: { code: "PFS_STORE_BUSY" } });
    expect((await run(["cat", "first"])).out).toBe("some bytes");
  });

  it("is neither a port nor a store for a second hub", async () => {
    const store = join((await makePlace()).cwd, "hub");
    const hub = await startHub({ store });
    const { run } = await makePlace();
    const port = await run(["up", "--listen", hub.address]);
    expect(port).toMatchObject({ status: 1, out: "" });
    expect(port.err).toMatch(/^pfs: the port 127\.0\.0\.1:\d+ cannot be opened[^\n]*\n$/);
    const busy = await run(["up", "--listen", "127.0.0.1:0", "--store", store, "--json"]);
    expect(busy.status).toBe(1);
    expect(JSON.parse(busy.out)).toMatchObject({ error: { code: "PFS_STORE_BUSY" } });
  });
});
