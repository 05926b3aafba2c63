import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { PacketfsError } from "../../../packets/errors.ts";
import { EXIT_CODES, ExitCode, exitCodeOf } from "../../../sdk/cli/exit-codes.ts";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));

/** Every error code that stands in a table of codes: the errors.ts of each layer, and the faults of packets. */
function codesOfTheSource(): Set<string> {
  const codes = new Set<string>();
  for (const layer of ["packets", "runtime", "nodes", "sdk"]) {
    for (const file of readdirSync(join(ROOT, layer), { recursive: true, encoding: "utf8" })) {
      if (!/(^|[/\\])(errors|faults)\.ts$/.test(file)) continue;
      const text = readFileSync(join(ROOT, layer, file), "utf8");
      for (const [, code] of text.matchAll(/"(PFS_[A-Z_]+)"/g)) codes.add(code!);
    }
  }
  return codes;
}

describe("exit codes", () => {
  it("are settled for every error code, and for none that is gone", () => {
    const codes = codesOfTheSource();
    expect(codes.size).toBeGreaterThan(30);
    expect([...codes].filter((code) => !(code in EXIT_CODES))).toEqual([]);
    expect(Object.keys(EXIT_CODES).filter((code) => !codes.has(code))).toEqual([]);
  });

  it("say what kind of failure it was", () => {
    const of = (code: string): ExitCode => exitCodeOf(new PacketfsError(code, "it failed"));
    expect(of("PFS_USAGE")).toBe(2);
    expect(of("PFS_NOT_FOUND")).toBe(3);
    expect(of("PFS_CHUNK_DAMAGED")).toBe(4);
    expect(of("PFS_REQUEST_TIMEOUT")).toBe(5);
    expect(of("PFS_PROGRAM_THREW")).toBe(6);
    expect(of("PFS_A_CODE_OF_A_NEWER_PEER")).toBe(1);
    expect(exitCodeOf(new Error("a defect"))).toBe(1);
  });
});
