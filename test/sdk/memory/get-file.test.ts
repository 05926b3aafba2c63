/** What fetching a file fails for is told as people know it. */
import { expect, test } from "vitest";
import { WireError, WireErrorCode } from "../../../nodes/errors.ts";
import { partError } from "../../../sdk/memory/get-file.ts";

test("what the system said of a part is said of the file", () => {
  const full = new WireError(WireErrorCode.bulkFileFailed, "a file cannot be used", {
    file: "31",
    system: "ENOSPC",
  });
  expect(partError(full, "big.bin")).toMatchObject({
    code: "PFS_FILE_FAILED",
    message: "cannot write big.bin: the disk is full",
    data: { path: "big.bin", system: "ENOSPC" },
    cause: full,
  });
  const other = new WireError(WireErrorCode.chunkMissing, "it is gone");
  expect(partError(other, "big.bin")).toBe(other);
});
