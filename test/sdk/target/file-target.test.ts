/** What "get" does to what is there: as cp does it, and nothing before all bytes have come. */
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { linkSync, lstatSync, realpathSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { findTarget } from "../../../sdk/target/file-target.ts";
import { makePlace, PFS, temporaryDirectory, TEXT } from "../cli/run-pfs.ts";
import type { Place } from "../cli/run-pfs.ts";
import { outputSync, runSync } from "../../suites/run-sync.ts";

const IS_ROOT = process.geteuid?.() === 0;

async function* inPieces(...pieces: string[]): AsyncGenerator<Uint8Array> {
  for (const piece of pieces) yield Buffer.from(piece);
}

async function* failing(): AsyncGenerator<Uint8Array> {
  yield Buffer.from("some of the new bytes");
  throw new Error("the rest does not come");
}

async function write(path: string, content: AsyncIterable<Uint8Array>): Promise<number> {
  return await (await findTarget(path, undefined)).write({ read: () => content });
}

function modeOf(path: string): string {
  return (statSync(path).mode & 0o7777).toString(8);
}

describe("a file that is written", () => {
  let directory: string;
  const at = (name: string): string => join(directory, name);
  beforeAll(async () => {
    directory = realpathSync(await temporaryDirectory());
  });

  it("is new with the mode that new files have", async () => {
    expect(await write(at("new"), inPieces("a", "", "b"))).toBe(2);
    writeFileSync(at("plain"), "");
    expect([readFileSync(at("new"), "utf8"), modeOf(at("new"))]).toEqual(["ab", modeOf(at("plain"))]);
  });

  it("keeps the mode and the owner of what was there", async () => {
    for (const mode of [0o600, 0o755, 0o640]) {
      writeFileSync(at("old"), "what was there before");
      chmodSync(at("old"), mode);
      if (IS_ROOT) chownSync(at("old"), 12_345, 23_456);
      const before = statSync(at("old"));
      await write(at("old"), inPieces("new"));
      const { uid, gid } = statSync(at("old"));
      expect([readFileSync(at("old"), "utf8"), modeOf(at("old"))]).toEqual(["new", mode.toString(8)]);
      expect([uid, gid]).toEqual([before.uid, before.gid]);
      rmSync(at("old"));
    }
  });

  it("is the same under its other names", async () => {
    writeFileSync(at("one"), "what was there before, and longer");
    linkSync(at("one"), at("two"));
    await write(at("one"), inPieces("new"));
    expect([readFileSync(at("one"), "utf8"), readFileSync(at("two"), "utf8")]).toEqual(["new", "new"]);
    expect(statSync(at("one")).nlink).toBe(2);
  });

  it("is the one that a link leads to, also where nothing is yet", async () => {
    mkdirSync(at("elsewhere"));
    writeFileSync(at("elsewhere/old"), "before");
    symlinkSync("elsewhere/old", at("to-old"));
    symlinkSync("to-new-2", at("to-new"));
    symlinkSync("elsewhere/new", at("to-new-2"));
    for (const [link, file] of [
      ["to-old", "elsewhere/old"],
      ["to-new", "elsewhere/new"],
    ] as const) {
      await write(at(link), inPieces("through", " the link"));
      expect(readFileSync(at(file), "utf8")).toBe("through the link");
      expect(lstatSync(at(link)).isSymbolicLink()).toBe(true);
    }
  });

  it("is as it was when not all bytes come, whatever kind it is", async () => {
    writeFileSync(at("whole"), "whole");
    linkSync(at("whole"), at("whole-too"));
    writeFileSync(at("single"), "single");
    for (const name of ["whole", "single", "absent"]) {
      await expect(write(at(name), failing())).rejects.toThrow("the rest does not come");
    }
    expect([readFileSync(at("whole"), "utf8"), readFileSync(at("single"), "utf8")]).toEqual([
      "whole",
      "single",
    ]);
    expect(existsSync(at("absent"))).toBe(false);
    expect(readdirSync(directory).filter((name) => name.includes(".part"))).toEqual([]);
  });

  it("is refused in a sentence where it cannot be written to", async () => {
    const refused = async (path: string): Promise<string> =>
      write(path, inPieces("x")).then(
        () => "it was written",
        (error: unknown) => (error as Error).message,
      );
    symlinkSync("loop", at("loop"));
    expect(await refused(directory)).toContain("is a directory; name a file in it");
    expect(await refused(at("nowhere/out"))).toContain("no such directory for");
    expect(await refused(at("plain/out"))).toContain("a part of the path is not a directory");
    expect(await refused(at("loop"))).toContain("too many symbolic links");
  });

  it.runIf(existsSync("/dev/full"))("may be a device, whose errors are told", async () => {
    expect(await write("/dev/null", inPieces("gone"))).toBe(4);
    expect(lstatSync("/dev/null").isCharacterDevice()).toBe(true);
    await expect(write("/dev/full", inPieces("gone"))).rejects.toThrow(/cannot write .* the disk is full/);
  });
});

/** Runs pfs as somebody who is not root, with a shell around it. */
function asNobody(script: string, words: readonly string[], cwd: string): { status: unknown; err: string } {
  const { uid, gid } = { uid: 65_534, gid: 65_534 };
  const env = { PATH: process.env["PATH"], HOME: cwd, PACKETFS_STORE: join(cwd, "store") };
  const shell = runSync("/bin/sh", ["-c", script, "sh", process.execPath, PFS, ...words], {
    cwd,
    env,
    uid,
    gid,
  });
  return { status: shell.status, err: shell.stderr };
}

function canMount(): boolean {
  return IS_ROOT && runSync("unshare", ["--mount", "true"]).status === 0;
}

describe("pfs get", () => {
  let place: Place;
  const at = (name: string): string => join(place.cwd, name);
  beforeAll(async () => {
    place = await makePlace();
    writeFileSync(at("other.txt"), "another text\n");
    await place.json(["put", "text.txt", "other.txt"]);
  });

  it("writes several files into a directory, and asks before it replaces any unasked", async () => {
    mkdirSync(at("out"));
    expect(await place.json(["get", "text.txt", "other.txt", "-o", "out"])).toMatchObject([
      { path: "out/text.txt" },
      { path: "out/other.txt" },
    ]);
    expect(readFileSync(at("out/other.txt"), "utf8")).toBe("another text\n");
    await place.json(["get", "other.txt", "-o", "out/"]);
    const cases: readonly (readonly [readonly string[], RegExp])[] = [
      [["get", "text.txt"], /text\.txt exists already; add -o text\.txt/],
      [["get", "text.txt", "other.txt"], /text\.txt exists already/],
      [
        ["get", "text.txt", "other.txt", "-o", "text.txt"],
        /text\.txt is not a directory, which several files/,
      ],
      [["get", "text.txt", "other.txt", "-o", "-"], /several files go to stdout with "pfs cat"/],
      [
        ["get", "text.txt", "text.txt@1", "-o", "out"],
        /several of the files would be written to out\/text\.txt/,
      ],
      [["get", "text.txt", "other.txt", "--range", "0-1"], /--range goes with one file/],
    ];
    for (const [words, says] of cases) {
      const { status, out, err } = await place.run(words);
      expect({ words, status, out }).toEqual({ words, status: 2, out: "" });
      expect(err).toMatch(says);
    }
    const missing = await place.run(["get", "text.txt", "-o", "nowhere/"]);
    expect([missing.status, missing.err]).toEqual([
      3,
      "pfs: no such directory for nowhere/text.txt; make it first\n",
    ]);
  });

  it("gives a range to stdout where no file is named, and leaves the original alone", async () => {
    const range = await place.run(["get", "text.txt", "--range", "5-11"]);
    expect([range.status, range.out]).toEqual([0, TEXT.slice(5, 11)]);
    expect(readFileSync(at("text.txt"), "utf8")).toBe(TEXT);
  });

  it.runIf(process.platform === "linux")("writes to /dev/stdout as to stdout, whatever that is", async () => {
    const words = ["get", "other.txt", "-o", "/dev/stdout", "--quiet"];
    const env = { ...process.env, PACKETFS_STORE: at("store") };
    for (const name of ["first", "second"]) {
      outputSync(
        "/bin/sh",
        ["-c", `(echo ${name}; "$@") > collected`, "sh", process.execPath, PFS, ...words],
        {
          cwd: place.cwd,
          env,
        },
      );
      expect(readFileSync(at("collected"), "utf8")).toBe(`${name}\nanother text\n`);
    }
  });

  it.runIf(IS_ROOT)(
    "refuses what the user may not write, and writes into what only that is allowed for",
    async () => {
      const { cwd } = place;
      outputSync("chmod", ["-R", "a+rwX", cwd]);
      writeFileSync(at("read-only"), "before");
      chmodSync(at("read-only"), 0o444);
      const refused = asNobody('exec "$@"', ["get", "other.txt", "-o", "read-only"], cwd);
      expect(refused).toEqual({ status: 1, err: "pfs: cannot write read-only: permission denied\n" });
      expect([readFileSync(at("read-only"), "utf8"), modeOf(at("read-only"))]).toEqual(["before", "444"]);
      // Its directory takes no new files, and it belongs to somebody else.
      mkdirSync(at("closed"));
      writeFileSync(at("closed/open"), "before, and longer than what comes");
      chmodSync(at("closed/open"), 0o666);
      chmodSync(at("closed"), 0o755);
      expect(asNobody('exec "$@"', ["get", "other.txt", "-o", "closed/open"], cwd).status).toBe(0);
      expect(readFileSync(at("closed/open"), "utf8")).toBe("another text\n");
      expect([statSync(at("closed/open")).uid, modeOf(at("closed/open"))]).toEqual([0, "666"]);
      expect(readdirSync(at("closed"))).toEqual(["open"]);
    },
  );

  it.runIf(canMount())("writes into a file that is mounted, which cannot be replaced", async () => {
    writeFileSync(at("outside"), "before, and longer than what comes");
    writeFileSync(at("mounted"), "");
    const script = 'mount --bind outside mounted && exec "$@"';
    const words = [process.execPath, PFS, "get", "other.txt", "-o", "mounted", "--quiet"];
    const env = { ...process.env, PACKETFS_STORE: at("store") };
    outputSync("unshare", ["--mount", "/bin/sh", "-c", script, "sh", ...words], { cwd: place.cwd, env });
    expect(readFileSync(at("outside"), "utf8")).toBe("another text\n");
  });
});

describe("pfs put", () => {
  it("stores several files, and none when one of them is wrong", async () => {
    const { cwd, run, json } = await makePlace();
    writeFileSync(join(cwd, "other.txt"), "another text\n");
    mkdirSync(join(cwd, "folder"));
    writeFileSync(join(cwd, "folder", "text.txt"), "one more\n");
    const wrong: readonly (readonly [readonly string[], number, RegExp])[] = [
      [["put", "text.txt", "nope"], 3, /no such file: nope/],
      [["put", "text.txt", "folder/text.txt"], 2, /several of the files would be called text\.txt/],
      [["put", "text.txt", "other.txt", "--name", "x"], 2, /--name goes with one file/],
    ];
    for (const [words, status, says] of wrong) {
      const finished = await run(words);
      expect([words, finished.status]).toEqual([words, status]);
      expect(finished.err).toMatch(says);
    }
    expect(existsSync(join(cwd, "store"))).toBe(false);
    const stored = await json(["put", "text.txt", "other.txt"]);
    expect(stored.map(({ name }) => name)).toEqual(["text.txt", "other.txt"]);
    expect((await json(["ls"])).map(({ root }) => root)).toEqual(stored.toReversed().map(({ root }) => root));
  });
});
