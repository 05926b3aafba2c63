/** What becomes of the parts that "get" left which was killed, where they cannot be gone on with. */
import { createHash } from "node:crypto";
import {
  existsSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { expect, it } from "vitest";
import { ownMark } from "../../../runtime/process-mark.ts";
import { findTarget } from "../../../sdk/target/file-target.ts";
import { openPart, removeDeadParts, removeLeftParts } from "../../../sdk/target/part-file.ts";
import { descriptorsOf } from "../../suites/processes.ts";
import { temporaryDirectory } from "../cli/run-pfs.ts";

/** Of a process that had this one's number before. */
const DEAD_MARK = ownMark().replace(/\d+$/, "1");

function partOf(target: string): string {
  const key = createHash("sha256").update(target).digest("hex").slice(0, 16);
  return `.pfs-${key}-${DEAD_MARK}-01234567.part`;
}

it.runIf(process.platform === "linux")(
  "a part that cannot be opened is gone, and another one is begun",
  async () => {
    const directory = realpathSync(await temporaryDirectory());
    const part = join(directory, partOf("target"));
    writeFileSync(part, "some of it");
    // It is looked once at what is there.
    const other = await openPart(directory, join(directory, "other"), 0o600);
    rmSync(part);
    writeFileSync(join(directory, "precious"), "");
    symlinkSync("precious", part);
    // What else this process has open, whoever runs its tests opens and closes.
    const open = (): number => descriptorsOf(process.pid).filter((path) => path.startsWith(directory)).length;
    expect(open()).toBe(1);
    const { handle, path, isTakenOver } = await openPart(directory, join(directory, "target"), 0o600);
    expect(open()).toBe(2);
    await handle.close();
    await other.handle.close();
    expect(isTakenOver).toBe(false);
    expect(readdirSync(directory).toSorted()).toEqual(
      [basename(other.path), basename(path), "precious"].toSorted(),
    );
  },
);

function journalOf(target: string, digits = "01234567"): string {
  const key = createHash("sha256").update(target).digest("hex").slice(0, 16);
  return `.pfs-${key}-${digits}.journal`;
}

it("a part that is taken over has its journal still, and what becomes of it takes the journal along", async () => {
  for (const isWhole of [true, false]) {
    const directory = realpathSync(await temporaryDirectory());
    writeFileSync(join(directory, partOf("target")), "some of it");
    const journal = join(directory, journalOf("target"));
    writeFileSync(journal, "what is there");
    const target = await findTarget(join(directory, "target"), undefined);
    const written = target.write({
      read: () => {
        throw new Error("it is filled");
      },
      fill: async (part) => {
        expect(part.journal).toBe(journal);
        expect(readFileSync(part.journal, "utf8")).toBe("what is there");
        expect(await part.handle.readFile("utf8")).toBe("some of it");
        if (!isWhole) throw new Error("it cannot be filled");
        return 4;
      },
    });
    if (isWhole) expect(await written).toBe(4);
    else await expect(written).rejects.toThrow("it cannot be filled");
    expect(readdirSync(directory)).toEqual(isWhole ? ["target"] : []);
  }
});

it("a journal without a part is removed when it is old, and one of a part that is being written never", async () => {
  const directory = realpathSync(await temporaryDirectory());
  const [lost, young] = [journalOf("lost"), journalOf("young")].map((name) => join(directory, name));
  const writing = await openPart(directory, join(directory, "writing"), 0o600);
  const old = new Date(Date.now() - 48 * 60 * 60 * 1000);
  for (const path of [lost!, young!, writing.journal]) writeFileSync(path, "");
  for (const path of [lost!, writing.journal]) utimesSync(path, old, old);
  // It is looked once at what is there, by the directory's name: under another one it is looked anew.
  await removeLeftParts(`${directory}/.`, "target");
  await writing.handle.close();
  expect(existsSync(lost!)).toBe(false);
  expect(existsSync(young!)).toBe(true);
  expect(existsSync(writing.journal)).toBe(true);
});

it("a part that is left to whoever tries again is taken over in the same process, and not one more", async () => {
  const directory = realpathSync(await temporaryDirectory());
  const seen: string[] = [];
  for (const isLast of [false, false, true]) {
    const target = await findTarget(join(directory, "target"), undefined);
    const written = target.write({
      read: () => {
        throw new Error("it is filled");
      },
      fill: async ({ handle, journal }) => {
        seen.push(await handle.readFile("utf8"));
        await handle.write("more", 0);
        writeFileSync(journal, "what is there");
        if (!isLast) throw new Error("lost");
        return 4;
      },
      survives: () => true,
    });
    if (isLast) expect(await written).toBe(4);
    else await expect(written).rejects.toThrow("lost");
    expect(readdirSync(directory)).toHaveLength(isLast ? 1 : 2);
  }
  expect(seen).toEqual(["", "more", "more"]);
  expect(readFileSync(join(directory, "target"), "utf8")).toBe("more");
});

it("parts of dead processes go once they are old enough, with their journals, and nothing else does", async () => {
  const directory = realpathSync(await temporaryDirectory());
  const day = 24 * 60 * 60 * 1000;
  for (const target of ["old", "young"]) {
    writeFileSync(join(directory, partOf(target)), "some of it");
    writeFileSync(join(directory, journalOf(target)), "what is there");
  }
  writeFileSync(join(directory, "precious"), "");
  const writing = await openPart(directory, join(directory, "writing"), 0o600);
  const before = new Date(Date.now() - 2 * day);
  for (const path of [join(directory, partOf("old")), writing.path]) utimesSync(path, before, before);
  expect(await removeDeadParts(directory, day)).toEqual({ bytes: 10, isClean: false });
  const left = [partOf("young"), journalOf("young"), basename(writing.path), "precious"];
  expect(readdirSync(directory).toSorted()).toEqual(left.toSorted());
  expect(await removeDeadParts(directory, 0)).toEqual({ bytes: 10, isClean: true });
  expect(readdirSync(directory).toSorted()).toEqual([basename(writing.path), "precious"].toSorted());
  await writing.handle.close();
});
