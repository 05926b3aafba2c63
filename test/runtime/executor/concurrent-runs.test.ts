/** What is left of a process that ran programs at once: nothing, also on a busy machine. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { BusyLoops } from "../../suites/busy-loops.ts";

it("ends by itself once it is closed after eight runs at once", async () => {
  await using _loops = new BusyLoops();
  const main = fileURLToPath(new URL("./concurrent-runs-main.ts", import.meta.url));
  const child = spawn(process.execPath, ["--no-node-snapshot", main], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    const ended = once(child, "exit");
    expect(await text(child.stdout)).toBe(`${Array.from({ length: 8 }, () => 11).join(" ")}\n`);
    expect(await ended).toEqual([0, null]);
  } finally {
    child.kill("SIGKILL");
  }
});
