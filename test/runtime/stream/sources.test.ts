import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  existsSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { fileSource, ingest } from "../../../runtime/stream/ingest.ts";
import { failure, randomBytes, readAll } from "../store/store-fixture.ts";
import { openStore } from "./open-store.ts";
import { outputSync } from "../../suites/run-sync.ts";

const HAS_FIFOS = process.platform !== "win32";
const INTERRUPTED_CHILD = fileURLToPath(new URL("./interrupted-child.ts", import.meta.url));

const { directory, store, writer } = await openStore();

function pathOf(name: string): string {
  return join(directory, name);
}

function makeFifo(name: string): string {
  outputSync("mkfifo", [pathOf(name)]);
  return pathOf(name);
}

describe.runIf(HAS_FIFOS)("a named pipe", () => {
  test("that nobody writes to ends with the signal's reason, and nothing is left that holds up the process", async () => {
    const path = makeFifo("silent");
    const controller = new AbortController();
    const stored = failure(
      ingest(writer, fileSource(path, controller.signal), { signal: controller.signal }),
    );
    await new Promise((resolve) => setImmediate(resolve));
    controller.abort(new Error("enough"));
    expect(await stored).toMatchObject({ message: "enough" });
    // This process has other reasons to live; one that has none ends. A read that hangs would keep it until it is killed.
    const child = spawn(process.execPath, [INTERRUPTED_CHILD, path], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let said = "";
    child.stdout.on("data", (piece: Buffer) => (said += piece.toString()));
    // Its end may be known before all that it said has been read.
    expect(await once(child, "close")).toEqual([0, null]);
    expect(said).toBe("enough");
  });

  test("is read to the end of the first writer, however late that one comes and however slowly it writes", async () => {
    const path = makeFifo("slow");
    const bytes = randomBytes("fifo", 3_000_000);
    writeFileSync(pathOf("fifo.bin"), bytes);
    const stored = ingest(writer, fileSource(path));
    await new Promise((resolve) => setTimeout(resolve, 20));
    const script = `exec 3>"$1"; head -c 10 "$2" >&3; sleep 0.1; tail -c +11 "$2" >&3`;
    const child = spawn("sh", ["-c", script, "sh", path, pathOf("fifo.bin")]);
    const exited = once(child, "exit");
    const { root, length } = await stored;
    await exited;
    expect(length).toBe(bytes.byteLength);
    expect(Buffer.compare(await readAll(store, root), bytes)).toBe(0);
  });

  test("whose writer hangs in the middle can be interrupted too", async () => {
    const path = makeFifo("hanging");
    const controller = new AbortController();
    const child = spawn("sh", ["-c", `exec 3>"$1"; head -c 100000 /dev/zero >&3; sleep 600`, "sh", path]);
    const stored = failure(
      ingest(writer, fileSource(path, controller.signal), { signal: controller.signal }),
    );
    await once(child, "spawn");
    controller.abort(new Error("enough"));
    expect(await stored).toMatchObject({ message: "enough" });
    child.kill("SIGKILL");
    await once(child, "exit");
  });
});

test.runIf(existsSync("/dev/zero"))("a device that never ends can be interrupted", async () => {
  const controller = new AbortController();
  const stored = ingest(writer, fileSource("/dev/zero", controller.signal), {
    signal: controller.signal,
    onProgress: (bytes) => bytes > 10_000_000 && controller.abort(new Error("enough")),
  });
  expect(await failure(stored)).toMatchObject({ message: "enough" });
});

test.runIf(existsSync("/proc/version"))(
  "what the system makes up as it is read is stored as it is",
  async () => {
    expect((await ingest(writer, fileSource("/proc/version"))).length).toBeGreaterThan(10);
  },
);

describe("a file that changes while it is stored", () => {
  const BYTES = 24 * 1024 * 1024;
  const before = Buffer.alloc(BYTES, "A");

  /** Stores a file to which something happens when a part of it was read. */
  async function storeWhile(name: string, happens: (path: string) => void): Promise<unknown> {
    const path = pathOf(name);
    writeFileSync(path, before);
    let hasHappened = false;
    const stored = ingest(writer, fileSource(path), {
      onProgress: (bytes) => {
        if (hasHappened || bytes < 4_000_000) return;
        hasHappened = true;
        happens(path);
      },
    });
    return failure(stored);
  }

  test.each<[string, string, (path: string) => void]>([
    ["is overwritten", "it was written to", (path) => writeFileSync(path, Buffer.alloc(BYTES, "B"))],
    ["is truncated", "its size went from", (path) => truncateSync(path, BYTES / 3)],
    ["grows", "its size went from", (path) => appendFileSync(path, "more")],
    ["is removed", "it was removed", (path) => rmSync(path)],
    [
      "is replaced",
      "another file took its place",
      (path) => {
        writeFileSync(`${path}.new`, before);
        renameSync(`${path}.new`, path);
      },
    ],
  ])("is told when it %s", async (what, reason, happens) => {
    const error = await storeWhile(what, happens);
    expect(error).toMatchObject({ code: "PFS_INPUT_CHANGED", data: { path: pathOf(what) } });
    expect((error as Error).message).toContain(reason);
  });

  test("is not taken for changed when it was only read, linked or had its mode changed", async () => {
    const path = pathOf("same");
    writeFileSync(path, before);
    let reads = 0;
    const { length } = await ingest(writer, fileSource(path), {
      onProgress: () => {
        if (reads++ === 0)
          outputSync("sh", ["-c", `cat "$1" > /dev/null; ln "$1" "$1.link"; chmod 600 "$1"`, "sh", path]);
      },
    });
    expect(length).toBe(BYTES);
  });

  test("is told whatever its size: empty, one byte, a whole number of blocks", async () => {
    for (const size of [0, 1, 65_536, 4 * 1024 * 1024]) {
      const path = pathOf(`size ${size}`);
      writeFileSync(path, Buffer.alloc(size, "A"));
      expect((await ingest(writer, fileSource(path))).length).toBe(size);
      const source = fileSource(path);
      const first = await source.fill(new Uint8Array(size));
      expect(first).toBe(size);
      utimesSync(path, new Date(), new Date(2001, 1, 1));
      expect(await failure(source.fill(new Uint8Array(1)))).toMatchObject({ code: "PFS_INPUT_CHANGED" });
      await source.close();
    }
  });
});

test("what is no bytes is refused by a code", async () => {
  async function* odd(piece: unknown): AsyncGenerator<Uint8Array> {
    yield new Uint8Array(10);
    yield piece as Uint8Array;
  }
  for (const piece of ["text", 7, null, undefined, [1, 2], new ArrayBuffer(8), new Float64Array(2)]) {
    expect(await failure(ingest(writer, odd(piece)))).toMatchObject({ code: "PFS_INPUT_INVALID" });
  }
});
