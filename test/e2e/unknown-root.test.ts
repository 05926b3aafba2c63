/** A root that is stored nowhere is a file that is not found, not damage: PFS_NOT_FOUND, exit status 3. */
import { describe, expect, it } from "vitest";
import { makePlace } from "../sdk/cli/run-pfs.ts";
import { startHub } from "./daemon.ts";

const UNKNOWN = "0".repeat(64);

describe.concurrent("a root that is not stored", () => {
  it.each([
    ["in a directory", ["get", UNKNOWN, "-o", "x"]],
    ["in a directory", ["stat", UNKNOWN]],
    ["in a directory", ["packets", UNKNOWN]],
    ["at a hub", ["get", UNKNOWN, "-o", "x"]],
    ["at a hub", ["stat", UNKNOWN]],
  ])("is not found %s: %s", async (where, words) => {
    const place = await makePlace();
    await place.json(["put", "text.txt"]);
    const at = where === "at a hub" ? ["--at", (await startHub()).clientToken] : [];
    const { out, status } = await place.run([...words, ...at, "--json"]);
    expect(JSON.parse(out)).toMatchObject({ schema: 1, error: { code: "PFS_NOT_FOUND" } });
    expect(status).toBe(3);
  });
});
