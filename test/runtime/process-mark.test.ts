/** Whose temporary files are: a process's that lives, one's that is dead, or one's of another machine. */
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ownMark, stateOfProcess } from "../../runtime/process-mark.ts";
import { temporaryDirectory } from "./store/store-fixture.ts";
import { runSync } from "../suites/run-sync.ts";

const MODULE = new URL("../../runtime/process-mark.ts", import.meta.url).href;
const ID_FILE = "/etc/machine-id";
/** Runs a program where the file that it is given says which machine this is. */
const AS_MACHINE = ["-rm", "sh", "-c", `mount --bind "$0" ${ID_FILE} && exec "$@"`];
const CAN_MOUNT = existsSync(ID_FILE) && runSync("unshare", [...AS_MACHINE, ID_FILE, "true"]).status === 0;

function withBoot(mark: string, boot: string): string {
  return mark.replace(/^(\w+)-\w+/, `$1-${boot}`);
}

/** What a process says on the machine of that id that is called as this one: its mark, and what it thinks of others. */
async function onMachine(id: string, ...marks: string[]): Promise<[mark: string, ...states: string[]]> {
  await using directory = await temporaryDirectory();
  const file = join(directory.path, "machine-id");
  writeFileSync(file, id);
  const script = `const { ownMark, stateOfProcess } = await import(${JSON.stringify(MODULE)});
    const marks = process.argv.slice(1).map((mark) => mark.replace("OWN-", ownMark().split("-")[0] + "-"));
    console.log(JSON.stringify([ownMark(), ...(await Promise.all(marks.map(stateOfProcess)))]));`;
  const node = [process.execPath, "--input-type=module", "-e", script, ...marks];
  return JSON.parse(runSync("unshare", [...AS_MACHINE, file, ...node]).stdout);
}

const OTHER_BOOT = "00000000";

describe("a process", () => {
  it("is alive, or dead when its number is another's", async () => {
    expect(await stateOfProcess(ownMark())).toBe("alive");
    expect(await stateOfProcess(ownMark().replace(/\d+$/, "1"))).toBe(
      existsSync("/proc/self/stat") ? "dead" : "alive",
    );
  });

  it.skipIf(!CAN_MOUNT)("of a machine that is called as this one is not known to be dead", async () => {
    const [first] = await onMachine(`${"1".repeat(32)}\n`);
    const mark = withBoot(first, OTHER_BOOT);
    expect(await onMachine(`${"2".repeat(32)}\n`, first, mark)).toEqual([
      expect.any(String),
      "elsewhere",
      "elsewhere",
    ]);
    // Of an earlier start of the same machine.
    expect(await onMachine(`${"1".repeat(32)}\n`, mark)).toEqual([expect.any(String), "dead"]);
  });

  it.skipIf(!CAN_MOUNT)(
    "of before this start is not known to be dead where machines have no id",
    async () => {
      for (const id of ["", "uninitialized\n"]) {
        const [, state] = await onMachine(id, `OWN-${OTHER_BOOT}-1-1`);
        expect(state).toBe("elsewhere");
      }
    },
  );
});
