import { expect, it } from "vitest";
import { outputSync, runSync } from "./run-sync.ts";

it.skipIf(process.platform === "win32")(
  "a command that hangs is ended, though what it has started keeps its output open",
  () => {
    const hangs = ["-c", "sleep 60 & echo begun; exec sleep 600"];
    expect(() => runSync("sh", hangs, {}, 500)).toThrow(/^sh -c .* hung; it had said /);
  },
);

it.skipIf(process.platform === "win32")("what a command says and how it ends is told as it is", () => {
  expect(runSync("sh", ["-c", "echo said; exit 3"])).toMatchObject({ status: 3, stdout: "said\n" });
  expect(runSync("there is no such command")).toMatchObject({ error: { code: "ENOENT" } });
  expect(outputSync("echo", ["said"])).toBe("said\n");
  expect(() => outputSync("sh", ["-c", "echo wrong >&2; exit 3"])).toThrow("sh ended with 3: wrong\n");
});
