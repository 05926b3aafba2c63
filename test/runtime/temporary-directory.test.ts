import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { ownMark } from "../../runtime/process-mark.ts";
import { temporaryDirectory } from "./store/store-fixture.ts";
import { runSync } from "../suites/run-sync.ts";

const MODULE = new URL("../../runtime/temporary-directory.ts", import.meta.url).href;

/** Makes one in a process of its own, which prints its path and ends, or is killed, without removing it. */
function leave(tmp: string, ending = ""): string {
  const script = `const { makeTemporaryDirectory } = await import(${JSON.stringify(MODULE)});
    process.stdout.write(await makeTemporaryDirectory("test"));
    ${ending}`;
  const words = ["--input-type=module", "-e", script];
  return runSync(process.execPath, words, { env: { ...process.env, TMPDIR: tmp } }).stdout;
}

it.runIf(process.platform !== "win32")(
  "a temporary directory of a process that is gone is removed when the next is made, and no other",
  async () => {
    await using above = await temporaryDirectory();
    const killed = leave(above.path, 'process.kill(process.pid, "SIGKILL");');
    const name = killed.slice(above.path.length + 1);
    expect(readdirSync(above.path)).toEqual([name]);
    // Of this process, which lives; of one of another machine; and what others have there.
    const [, , machine = ""] = name.split("-");
    const elsewhere = name.replace(machine, machine.replaceAll(/./g, "0"));
    const others = [`packetfs-test-${ownMark()}-abcdef`, elsewhere, "packetfs-of-somebody"];
    for (const other of others) mkdirSync(join(above.path, other));
    const last = leave(above.path);
    const rest = [...others, last.slice(above.path.length + 1)];
    expect(readdirSync(above.path).toSorted()).toEqual(rest.toSorted());
    rmSync(last, { recursive: true });
  },
);
