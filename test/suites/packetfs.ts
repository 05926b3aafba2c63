/** What every `PacketFS` must do, whether it is a directory or a hub with nodes. */
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hasCode } from "../../packets/errors.ts";
import { Op } from "../../packets/layout.ts";
import { decodePacket, encodeFrame } from "../../packets/packet.ts";
import type { JobEvent, LoadedProgram, PacketFS, ProgramSource } from "../../sdk/packetfs.ts";

export interface PacketFSHarness {
  readonly pfs: PacketFS;
  close(): Promise<void>;
}

const SUM: ProgramSource = {
  source: `import { defineProgram, lines } from "packetfs";
    export default defineProgram({ input: lines(), map: Number, combine: (a, b) => a + b });`,
};
const COUNT: ProgramSource = {
  source: `import { defineProgram, lines } from "packetfs";
    export default defineProgram({
      input: lines(), yields: "groups",
      map: (line, { emit }) => emit(line.slice(-1), 1),
      combine: (a, b) => a + b,
    });`,
};
const UPPER: ProgramSource = {
  source: `import { defineProgram, lines } from "packetfs";
    export default defineProgram({
      input: lines(), yields: "bytes", map: (line) => line.toUpperCase() + "\\n",
    });`,
};
const ENDLESS: ProgramSource = {
  source: `import { defineProgram, lines } from "packetfs";
    export default defineProgram({
      input: lines(), limits: { timeMs: 120_000 },
      map: () => { for (;;); }, combine: (a) => a,
    });`,
};

const NUMBERS = Array.from({ length: 30_000 }, (_, index) => index + 1);
const TEXT = Buffer.from(`${NUMBERS.join("\n")}\n`);

async function bytesOf(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const piece of pieces) parts.push(Uint8Array.from(piece));
  return Buffer.concat(parts);
}

async function* endlessBytes(given: () => void): AsyncGenerator<Uint8Array> {
  for (let piece = 0; ; piece++) {
    yield new Uint8Array(65_536).fill(piece);
    if (piece === 4) given();
  }
}

export function describePacketFS(name: string, open: () => Promise<PacketFSHarness>): void {
  describe(name, () => {
    let harness: PacketFSHarness;
    let pfs: PacketFS;
    let directory: string;

    beforeAll(async () => {
      directory = await mkdtemp(join(tmpdir(), "pfs-suite-"));
      harness = await open();
      pfs = harness.pfs;
      await pfs.put(TEXT, { name: "numbers.txt" });
    });
    afterAll(async () => {
      await harness.close();
      await rm(directory, { recursive: true, force: true });
    });

    async function codeOf(work: Promise<unknown> | AsyncIterable<unknown>): Promise<string> {
      try {
        if (Symbol.asyncIterator in work) for await (const _ of work);
        else await work;
      } catch (error) {
        return hasCode(error, (error as { code: string }).code)
          ? (error as { code: string }).code
          : String(error);
      }
      return "no error";
    }

    describe("files", () => {
      it("come out as they went in, from a path, bytes or a stream, under one root", async () => {
        const path = join(directory, "numbers.txt");
        await writeFile(path, TEXT);
        async function* pieces(): AsyncGenerator<Uint8Array> {
          for (let at = 0; at < TEXT.length; at += 999) yield TEXT.subarray(at, at + 999);
        }
        const stored = await Promise.all([
          pfs.put({ path }, { name: "from/path" }),
          pfs.put(TEXT, { name: "from/bytes" }),
          pfs.put(pieces(), { name: "from/pieces" }),
        ]);
        expect(new Set(stored.map(({ root }) => root)).size).toBe(1);
        for (const { name: file, root, length } of stored) {
          expect(length).toBe(TEXT.length);
          expect((await bytesOf(pfs.get(file!))).equals(TEXT)).toBe(true);
          expect((await bytesOf(pfs.get(root))).equals(TEXT)).toBe(true);
        }
      });

      it("can be empty, and read in ranges", async () => {
        await pfs.put(new Uint8Array(0), { name: "empty" });
        expect(await bytesOf(pfs.get("empty"))).toHaveLength(0);
        for (const [start, end] of [
          [0, 0],
          [0, 1],
          [99_999, 100_001],
          [TEXT.length - 1, TEXT.length],
          [TEXT.length, TEXT.length],
        ] as const) {
          const range = await bytesOf(pfs.get("numbers.txt", { range: { start, end } }));
          expect(range.equals(TEXT.subarray(start, end))).toBe(true);
        }
        expect(await codeOf(pfs.get("numbers.txt", { range: { start: TEXT.length + 1 } }))).toBe("PFS_USAGE");
      });

      it("are written to paths, whole or not at all, with what is there already", async () => {
        const path = join(directory, "fetched");
        const told: [number, number][] = [];
        const { root } = await pfs.stat("numbers.txt");
        const got = await pfs.getFile("numbers.txt", path, {
          onProgress: (bytes, total) => told.push([bytes, total]),
        });
        expect(got).toMatchObject({ root, path, length: TEXT.length });
        expect(told.at(-1)).toEqual([TEXT.length, TEXT.length]);
        expect((await readFile(path)).equals(TEXT)).toBe(true);
        await writeFile(path, Buffer.concat([Buffer.from("before it "), TEXT]));
        await chmod(path, 0o640);
        await pfs.getFile(root, path);
        expect((await readFile(path)).equals(TEXT)).toBe(true);
        expect((await stat(path)).mode & 0o777).toBe(0o640);
        expect(await pfs.getFile("numbers.txt", path, { range: { start: 5, end: 9 } })).toMatchObject({
          length: 4,
        });
        expect((await readFile(path)).equals(TEXT.subarray(5, 9))).toBe(true);
        expect(await codeOf(pfs.getFile("nothing", path))).toBe("PFS_NOT_FOUND");
        expect(await codeOf(pfs.getFile("numbers.txt", directory))).toBe("PFS_USAGE");
        expect(await codeOf(pfs.getFile("numbers.txt", join(directory, "no/such/place")))).toBe(
          "PFS_FILE_NOT_FOUND",
        );
        expect((await readdir(directory)).filter((name) => name.endsWith(".part"))).toEqual([]);
      });

      it("are listed by name, in order, and their versions count up", async () => {
        await pfs.put(Buffer.from("1"), { name: "list/b" });
        await pfs.put(Buffer.from("2"), { name: "list/a" });
        await pfs.put(Buffer.from("3"), { name: "list/b" });
        const listed: string[] = [];
        for await (const info of pfs.list({ prefix: "list/" })) listed.push(`${info.name} ${info.version}`);
        expect(listed).toEqual(["list/a 1", "list/b 2"]);
        expect(await pfs.stat("list/b")).toMatchObject({ name: "list/b", length: 1, version: 2 });
      });

      it("are gone once removed, and missing ones are told by one code", async () => {
        const { root } = await pfs.put(Buffer.from("soon gone"), { name: "gone" });
        await pfs.remove("gone");
        const unknown = "0123456789abcdef".repeat(4);
        expect(await codeOf(pfs.stat("gone"))).toBe("PFS_NOT_FOUND");
        expect(await codeOf(pfs.get("gone"))).toBe("PFS_NOT_FOUND");
        expect(await codeOf(pfs.remove("gone"))).toBe("PFS_NOT_FOUND");
        expect(await codeOf(pfs.stat(unknown))).toBe("PFS_NOT_FOUND");
        expect(await codeOf(pfs.get(unknown))).toBe("PFS_NOT_FOUND");
        expect(await codeOf(pfs.packets("gone"))).toBe("PFS_NOT_FOUND");
        expect(await codeOf(pfs.run(SUM, ["gone"]))).toBe("PFS_NOT_FOUND");
        expect(await codeOf(pfs.cancel("no-such-job"))).toBe("PFS_NOT_FOUND");
        expect(root).toMatch(/^[0-9a-f]{64}$/);
      });

      it("have names, and a root is none", async () => {
        const { root } = await pfs.put(Buffer.from("one"), { name: "foo" });
        for (const bad of ["", "a\0b", "x".repeat(2_000), root, root.toUpperCase()]) {
          expect(await codeOf(pfs.put(Buffer.from("two"), { name: bad }))).toBe("PFS_NAME_INVALID");
          expect(await codeOf(pfs.run(SUM, ["numbers.txt"], { out: bad }))).toBe("PFS_NAME_INVALID");
        }
        expect((await bytesOf(pfs.get("foo"))).toString()).toBe("one");
        expect((await bytesOf(pfs.get(root))).toString()).toBe("one");
      });

      it("are streams of packets, the top one first", async () => {
        const parts = [];
        for await (const part of pfs.packets("numbers.txt")) parts.push(part);
        const { root } = await pfs.stat("numbers.txt");
        expect(parts[0]).toMatchObject({ ref: root, depth: 0, at: 0 });
        expect(parts[0]!.frame.byteLength % 64).toBe(0);
      });
    });

    describe("directories", () => {
      const filesIn = async (at: string): Promise<Record<string, string>> => {
        const found: Record<string, string> = {};
        for (const entry of await readdir(at, { withFileTypes: true, recursive: true })) {
          const path = join(entry.parentPath, entry.name);
          if (entry.isFile()) found[relative(at, path)] = (await readFile(path)).toString("latin1");
        }
        return found;
      };

      it("are stored, listed, read and written out, with versions, and gc keeps all of them", async () => {
        const from = join(directory, "site");
        await mkdir(join(from, "docs"), { recursive: true });
        await writeFile(join(from, "index.html"), "<html>");
        await writeFile(join(from, "docs", "large"), TEXT.toString().repeat(3));
        const first = await pfs.putTree(from, { name: "trees/site" });
        expect(first).toMatchObject({ name: "trees/site", entries: 4, readFiles: 2 });
        expect(await pfs.kinds([first.root, (await pfs.stat("numbers.txt")).root])).toEqual(["tree", "file"]);
        await writeFile(join(from, "index.html"), "<html lang=en>");
        const second = await pfs.putTree(from, { name: "trees/site" });
        expect((await pfs.history("trees/site")).map(({ root }) => root)).toEqual([second.root, first.root]);
        await pfs.gc();
        const tree = await pfs.openTree("trees/site");
        expect([...tree.entries()].map(({ path, type }) => `${type} ${path}`)).toEqual([
          "directory ",
          "directory docs",
          "file docs/large",
          "file index.html",
        ]);
        expect((await bytesOf(pfs.get("trees/site/index.html"))).toString()).toBe("<html lang=en>");
        expect(
          (await bytesOf(pfs.get("trees/site@1/index.html", { range: { start: 1, end: 3 } }))).toString(),
        ).toBe("ht");
        const page = join(directory, "page.html");
        expect(await pfs.getFile(`${first.root}/index.html`, page)).toMatchObject({
          root: first.root,
          length: 6,
        });
        expect(await readFile(page, "utf8")).toBe("<html>");
        expect((await bytesOf((await pfs.openTree("trees/site/docs/large")).read())).length).toBe(
          3 * TEXT.length,
        );
        const changes = [];
        for await (const change of (await pfs.openTree("trees/site@1")).diff(tree)) changes.push(change);
        expect(changes).toEqual([{ change: "changed", path: "index.html", type: "file" }]);
        const to = join(directory, "site copy");
        await tree.write(to);
        expect(await filesIn(to)).toEqual(await filesIn(from));
        expect((await pfs.putTree(to)).root).toBe(second.root);
        await (await pfs.openTree("trees/site/docs")).write(join(directory, "docs copy"));
        expect(Object.keys(await filesIn(join(directory, "docs copy")))).toEqual(["large"]);
      });

      it("are told from files, and missing paths by one code", async () => {
        expect(await codeOf(pfs.openTree("numbers.txt"))).toBe("PFS_NOT_A_TREE");
        expect(await codeOf(pfs.openTree("nothing"))).toBe("PFS_NOT_FOUND");
        expect(await codeOf(pfs.openTree("trees/site/nothing"))).toBe("PFS_NOT_FOUND");
        expect(await codeOf(pfs.get("trees/site/nothing"))).toBe("PFS_NOT_FOUND");
        expect(await codeOf(pfs.get("trees/site/docs"))).toBe("PFS_NOT_FOUND");
        expect(await codeOf(pfs.get("numbers.txt/nothing"))).toBe("PFS_NOT_FOUND");
        expect(await codeOf(pfs.putTree(join(directory, "nothing")))).toBe("PFS_FILE_NOT_FOUND");
        expect(await codeOf(pfs.syncTree(directory, "numbers.txt"))).toBe("PFS_NOT_A_TREE");
        const filter = [{ kind: "exclude", pattern: "[" }] as const;
        expect(await codeOf(pfs.putTree(directory, { filter }))).toBe("PFS_PATTERN_INVALID");
      });

      it("are made equal both ways, removing what is gone only when told to", async () => {
        const [from, to] = [join(directory, "sync from"), join(directory, "sync to")];
        await mkdir(join(from, "sub"), { recursive: true });
        await writeFile(join(from, "a"), "1");
        await writeFile(join(from, "sub", "b"), "2");
        const first = await pfs.syncTree(from, "trees/sync");
        expect(first.changes.map(({ change, path }) => `${change} ${path}`)).toEqual([
          "added a",
          "added sub",
          "added sub/b",
        ]);
        expect(await pfs.syncTree(from, "trees/sync")).toMatchObject({ changes: [], version: first.version });
        await rm(join(from, "a"));
        await writeFile(join(from, "c"), "33");
        const dry = await pfs.syncTree(from, "trees/sync", { deletes: true, dryRun: true });
        expect(dry.changes.map(({ change, path }) => `${change} ${path}`)).toEqual(["removed a", "added c"]);
        expect((await pfs.stat("trees/sync")).version).toBe(first.version);
        await pfs.syncTree(from, "trees/sync");
        expect((await bytesOf(pfs.get("trees/sync/a"))).toString()).toBe("1");
        const last = await pfs.syncTree(from, "trees/sync", { deletes: true });
        expect(await codeOf(pfs.get("trees/sync/a"))).toBe("PFS_NOT_FOUND");
        expect((await pfs.putTree(from)).root).toBe(last.root);
        await mkdir(to);
        await writeFile(join(to, "mine"), "mine");
        const tree = await pfs.openTree("trees/sync");
        const plan = await tree.write(to, { sync: true, deletes: true, dryRun: true });
        expect(plan.changes.map(({ change, path }) => `${change} ${path}`).toSorted()).toEqual([
          "added c",
          "added sub",
          "added sub/b",
          "removed mine",
        ]);
        expect(Object.keys(await filesIn(to))).toEqual(["mine"]);
        await tree.write(to, { sync: true, deletes: true });
        expect(await filesIn(to)).toEqual(await filesIn(from));
        expect(await tree.write(to, { sync: true, deletes: true, checksum: true })).toMatchObject({
          changes: [],
        });
      });
    });

    describe("jobs", () => {
      it("give a value, groups or a file, and say how it went", async () => {
        const events: JobEvent[] = [];
        const sum = await pfs.run(SUM, ["numbers.txt"], { onEvent: (event) => events.push(event) });
        expect(sum.value).toBe(NUMBERS.reduce((a, b) => a + b, 0));
        expect(sum.statistics).toMatchObject({ inputBytes: TEXT.length });
        expect(events[0]).toMatchObject({ kind: "started", job: sum.job });
        expect(events.at(-1)).toMatchObject({ kind: "progress", done: sum.statistics.tasks });
        const { value } = await pfs.run(COUNT, ["numbers.txt", "numbers.txt"]);
        expect(value).toEqual(Array.from("0123456789", (digit) => [digit, 6_000]));
        const { file } = await pfs.run(UPPER, ["numbers.txt"], { out: "out/upper" });
        expect(file).toMatchObject({ name: "out/upper", length: TEXT.length });
        expect((await bytesOf(pfs.get("out/upper"))).equals(TEXT)).toBe(true);
        const states = (await pfs.jobs()).map(({ state }) => state);
        expect(states.filter((state) => state === "done").length).toBeGreaterThanOrEqual(3);
      });

      it("give the same answer however they are split", async () => {
        const answers = [];
        for (const splitBytes of [1_000, 4_096, 50_000, 1_000_000]) {
          answers.push((await pfs.run(COUNT, ["numbers.txt"], { splitBytes })).value);
        }
        expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
      });

      it("have other stored files beside those that they read, as long as they are there", async () => {
        const options = { files: { a: "numbers.txt", b: "numbers.txt" }, engine: "auto" } as const;
        const { value } = await pfs.run(COUNT, ["numbers.txt"], options);
        expect(value).toEqual((await pfs.run(COUNT, ["numbers.txt"])).value);
        const missing = pfs.run(COUNT, ["numbers.txt"], { files: { a: "nothing" } });
        expect(await missing.catch((error: unknown) => error)).toMatchObject({ code: "PFS_NOT_FOUND" });
        await using loaded = await pfs.load(COUNT, { files: { a: "numbers.txt" }, engine: "cpu" });
        expect(await loaded.exec(new Uint8Array(0))).toHaveLength(0);
        const unloaded = pfs.load(COUNT, { files: { a: "nothing" } });
        expect(await unloaded.catch((error: unknown) => error)).toMatchObject({ code: "PFS_NOT_FOUND" });
        const misnamed = pfs.run(COUNT, ["numbers.txt"], { files: { "a b": "numbers.txt" } });
        expect(await misnamed.catch((error: unknown) => error)).toMatchObject({ code: "PFS_USAGE" });
      });

      it("fail by what the program did, with its code", async () => {
        const failing: ProgramSource = {
          source: `import { defineProgram, lines } from "packetfs";
            export default defineProgram({ input: lines(), map: () => { throw new Error("mine") }, combine: (a) => a });`,
        };
        await expect(pfs.run(failing, ["numbers.txt"])).rejects.toThrow("mine");
        expect(await codeOf(pfs.run(failing, ["numbers.txt"]))).toBe("PFS_PROGRAM_THREW");
        expect(await codeOf(pfs.run({ source: "export default 1;" }, ["numbers.txt"]))).toBe(
          "PFS_PROGRAM_INVALID",
        );
        expect(await codeOf(pfs.run({ source: "export const" }, ["numbers.txt"]))).toBe(
          "PFS_PROGRAM_INVALID",
        );
      });

      it("run on nodes that are listed", async () => {
        const { statistics } = await pfs.run(SUM, ["numbers.txt"]);
        const labels = (await pfs.nodes()).map(({ label }) => label);
        expect(labels).toEqual(expect.arrayContaining(Object.keys(statistics.byNode)));
      });
    });

    describe("a loaded program", () => {
      /** EXEC packets that each read one byte of a stored chunk, which says who they are. */
      const PLACES = 200;
      let ref: Uint8Array;
      const frameOf = (from: number, count: number): Uint8Array =>
        encodeFrame(
          Array.from({ length: count }, (_, index) => ({
            op: Op.EXEC,
            lane: 1,
            from: (from + index) % PLACES,
            length: 1,
            ref,
          })),
        );
      /** What an answer at its place in its frame says; a fault's text stands elsewhere. */
      const textOf = (answers: Uint8Array, index: number): string => {
        const packet = decodePacket(answers, index);
        expect(packet.at).toBe(index);
        if (packet.op === Op.FAULT) return "fault";
        return Buffer.from(packet.ref.subarray(0, packet.length)).toString();
      };
      const expectAnswers = (answers: Uint8Array, from: number, count: number): void => {
        expect(answers.byteLength).toBe(count * 64);
        for (let index = 0; index < count; index++) {
          const place = (from + index) % PLACES;
          expect(textOf(answers, index)).toBe(place === 13 ? "fault" : `${place}`);
        }
      };
      const load = (): Promise<LoadedProgram> =>
        pfs.load({
          source: `import { bytes, defineProgram } from "packetfs";
            export default defineProgram({
              input: bytes(), yields: "bytes",
              map(record, { write }) { if (record[0] === 13) throw new Error("unlucky"); write(String(record[0])); },
            });`,
        });

      beforeAll(async () => {
        await pfs.put(
          new Uint8Array(PLACES).map((_, index) => index),
          { name: "places" },
        );
        for await (const { frame } of pfs.packets("places")) ref = decodePacket(frame, 0).ref.slice();
      });

      it("has lanes that say what its packets took, whose totals stay when it is closed", async () => {
        const usedBefore = (await pfs.lanes()).reduce((sum, { use }) => sum + use.packets, 0);
        const program = await load();
        await program.exec(frameOf(0, 20));
        const machines = await pfs.lanes();
        const lanes = machines.flatMap((machine) => machine.lanes).filter(({ packets }) => packets > 0);
        const sum = (field: "packets" | "faults" | "inputBytes"): number =>
          lanes.reduce((total, lane) => total + lane[field], 0);
        expect([sum("packets"), sum("faults"), sum("inputBytes")]).toEqual([20, 1, 20]);
        for (const { lane, kind, cpuMs } of lanes) {
          expect(kind).toBe("js");
          expect(lane).toBeGreaterThan(0);
          expect(cpuMs).toBeGreaterThan(0);
        }
        await program.close();
        const used = (await pfs.lanes({ limit: 0 })).reduce((total, { use }) => total + use.packets, 0);
        expect(used).toBe(usedBefore + 20);
        for (const node of await pfs.nodes()) expect(node.lanes?.use.packets).toBeGreaterThanOrEqual(0);
        expect(await codeOf(pfs.lanes({ limit: 1.5 }))).toBe("PFS_USAGE");
        expect(await codeOf(pfs.lanes({ limit: 1025 }))).toBe("PFS_USAGE");
      });

      it("answers a stream of frames of any size in their order, faults among them", async () => {
        await using program = await load();
        const sizes = [
          0,
          1,
          3,
          64,
          65,
          1,
          600,
          1024,
          0,
          2_000,
          5,
          5_000,
          ...Array.from({ length: 300 }, () => 2),
          1,
        ];
        const starts = sizes.map((_, index) => sizes.slice(0, index).reduce((sum, count) => sum + count, 0));
        async function* frames(): AsyncGenerator<Uint8Array> {
          for (const [index, count] of sizes.entries()) {
            if (index % 7 === 0) await new Promise((resolve) => setImmediate(resolve));
            yield frameOf(starts[index]!, count);
          }
        }
        for (const aheadPackets of [0, 200_000]) {
          let next = 0;
          for await (const answers of program.exec(frames(), { aheadPackets })) {
            expectAnswers(answers, starts[next]!, sizes[next]!);
            next++;
          }
          expect(next).toBe(sizes.length);
        }
        // A stream that was read to its end leaves the program as it was.
        expectAnswers(await program.exec(frameOf(7, 3)), 7, 3);
      });

      it("takes no more than it has room for, and ends with its reader", async () => {
        await using program = await load();
        let taken = 0;
        let isLeft = false;
        function* endless(): Generator<Uint8Array> {
          const frame = frameOf(0, 1024);
          try {
            for (;;) {
              taken++;
              yield frame;
            }
          } finally {
            isLeft = true;
          }
        }
        const answers = program.exec(endless());
        expect(taken).toBe(0);
        expectAnswers((await answers.next()).value!, 0, 1024);
        await expect.poll(() => taken, { timeout: 60_000 }).toBeGreaterThan(60);
        await new Promise((resolve) => setTimeout(resolve, 50));
        expect(taken).toBeLessThanOrEqual(66);
        await answers.return();
        expect(isLeft).toBe(true);
        expectAnswers(await program.exec(frameOf(0, 10)), 0, 10);
      });

      it("rejects a stream with what its source fails for, behind what came before", async () => {
        await using program = await load();
        const broken = frameOf(2, 3);
        broken[64 + 40]! ^= 1;
        const failure = new Error("no more frames");
        function* failing(): Generator<Uint8Array> {
          yield frameOf(0, 2);
          throw failure;
        }
        for (const frames of [failing(), [frameOf(0, 2), broken, frameOf(0, 2)]]) {
          const answers = program.exec(frames);
          expectAnswers((await answers.next()).value!, 0, 2);
          const end = expect(answers.next()).rejects;
          if (Array.isArray(frames))
            await end.toMatchObject({ code: "PFS_PACKET_INVALID", data: { index: 1 } });
          else await end.toBe(failure);
        }
      });

      it("rejects a stream with the signal's reason, though its source says nothing more", async () => {
        await using program = await load();
        const given = new AbortController();
        async function* silent(): AsyncGenerator<Uint8Array> {
          yield frameOf(0, 2);
          await new Promise(() => {});
        }
        const answers = program.exec(silent(), { signal: given.signal });
        expectAnswers((await answers.next()).value!, 0, 2);
        const reason = new Error("the stream was given up");
        const next = answers.next();
        given.abort(reason);
        await expect(next).rejects.toBe(reason);
        expect((await answers.next()).done).toBe(true);
      });
    });

    describe("what is given up", () => {
      /** Its own object, so that no other error can be taken for it. */
      const reasonOf = (what: string): Error => new Error(`${what} was given up`);

      it("rejects with the signal's own reason at once where it was given up before", async () => {
        const reason = reasonOf("it");
        const signal = AbortSignal.abort(reason);
        await expect(pfs.put(TEXT, { name: "never", signal })).rejects.toBe(reason);
        await expect(bytesOf(pfs.get("numbers.txt", { signal }))).rejects.toBe(reason);
        await expect(pfs.run(SUM, ["numbers.txt"], { signal })).rejects.toBe(reason);
        await expect(pfs.verify({ signal })).rejects.toBe(reason);
        await expect(pfs.gc({ signal })).rejects.toBe(reason);
        expect(await codeOf(pfs.stat("never"))).toBe("PFS_NOT_FOUND");
      });

      it("is a put in the middle", async () => {
        const given = new AbortController();
        const reason = reasonOf("the put");
        const put = pfs.put(
          endlessBytes(() => given.abort(reason)),
          { name: "endless", signal: given.signal },
        );
        await expect(put).rejects.toBe(reason);
        expect(await codeOf(pfs.stat("endless"))).toBe("PFS_NOT_FOUND");
      });

      it("is a get in the middle", async () => {
        const big = Buffer.alloc(8 * 1024 * 1024, (TEXT.toString() + "x").slice(0, 9_973));
        await pfs.put(big, { name: "big" });
        const given = new AbortController();
        const reason = reasonOf("the get");
        const reading = async (): Promise<void> => {
          for await (const _ of pfs.get("big", { signal: given.signal })) given.abort(reason);
        };
        await expect(reading()).rejects.toBe(reason);
      });

      it("is a job that runs, and it ends as cancelled", async () => {
        const given = new AbortController();
        const reason = reasonOf("the job");
        let job = "";
        const running = pfs.run(ENDLESS, ["numbers.txt"], {
          signal: given.signal,
          onEvent: (event) => {
            job = event.job;
            given.abort(reason);
          },
        });
        await expect(running).rejects.toBe(reason);
        await expect
          .poll(async () => (await pfs.jobs()).find((each) => each.job === job)?.state, { timeout: 30_000 })
          .toBe("cancelled");
      });

      it("is a job that somebody else cancels by its id", async () => {
        const running = pfs.run(ENDLESS, ["numbers.txt"], {
          onEvent: (event) => {
            if (event.kind === "started") void pfs.cancel(event.job);
          },
        });
        expect(await codeOf(running)).toBe("PFS_CANCELLED");
      });
    });

    it("looks after itself: verify finds nothing wrong, and gc keeps what has a name", async () => {
      expect(await pfs.verify()).toMatchObject({ damaged: [], incomplete: [] });
      await pfs.gc();
      expect((await bytesOf(pfs.get("numbers.txt"))).equals(TEXT)).toBe(true);
    });
  });
}
