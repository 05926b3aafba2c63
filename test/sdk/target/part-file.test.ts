/** What becomes of the parts that "get" left which was killed, where they cannot be gone on with. */
import { createHash } from "node:crypto";
import { readdirSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { expect, it } from "vitest";
import { ownMark } from "../../../runtime/process-mark.ts";
import { openPart } from "../../../sdk/target/part-file.ts";
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
