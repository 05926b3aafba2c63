/** What people see at a terminal of 80 columns, which script(1) plays here. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { beforeAll, describe, expect, it } from "vitest";
import { displayWidth } from "../../../sdk/cli/format.ts";
import { makePlace, PFS, TEXT } from "./run-pfs.ts";
import type { Place } from "./run-pfs.ts";

const HAS_SCRIPT = process.platform === "linux" && spawnSync("script", ["--version"]).status === 0;
const COLUMNS = 80;
const LONG_NAME = "größe – 名前 and other words that make a name long.bin";

let place: Place;
beforeAll(async () => {
  place = await makePlace();
  writeFileSync(join(place.cwd, LONG_NAME), Buffer.alloc(32 << 20, TEXT));
  await place.json(["put", "text.txt"]);
});

/** All that a shell's commands write to the terminal, which stdout and stderr both are where they lead nowhere else. */
function atTerminal(command: string): string {
  const env = {
    PATH: process.env["PATH"],
    HOME: place.cwd,
    TERM: "xterm",
    PACKETFS_STORE: join(place.cwd, "store"),
    NODE: process.execPath,
    PFS,
  };
  const script = `stty cols ${COLUMNS}; pfs() { "$NODE" "$PFS" "$@"; }; ${command}`;
  const { stdout, status } = spawnSync("script", ["-qec", `/bin/sh -c '${script}'`, "/dev/null"], {
    cwd: place.cwd,
    env,
    encoding: "utf8",
  });
  expect(status).toBe(0);
  return stdout.replaceAll("\r\n", "\n");
}

describe.runIf(HAS_SCRIPT)("at a terminal", () => {
  it("progress takes one line and leaves none, and what was done is told below", () => {
    const shown = atTerminal(`pfs put "${LONG_NAME}"`);
    const drawn = stripVTControlCharacters(shown).split(/[\r\n]/);
    const lines = drawn.filter((line) => / % /.test(line));
    expect(lines.length).toBeGreaterThan(0);
    for (const line of lines) {
      expect(displayWidth(line)).toBeLessThan(COLUMNS);
      expect(line).toMatch(/^größe – 名前 and other …  [━─]* *\d+ % .* of 33\.6 MB/);
    }
    // The last one is erased before anything else is said.
    const [result = ""] = shown.split("\r\u001b[K").slice(-1);
    expect(result).toMatch(/^[0-9a-f]{64} {2}größe/);
    expect(drawn.at(-2)).toMatch(/^stored 33\.6 MB in .*: \d+ chunks?, \d+ new, /);
  });

  it("ls fits, and the roots that it shows name their files", async () => {
    const [head, ...lines] = stripVTControlCharacters(atTerminal("pfs ls")).trimEnd().split("\n");
    expect(head).toMatch(/^NAME +SIZE +VERSION +STORED +ROOT$/);
    expect(lines.length).toBeGreaterThan(0);
    for (const line of lines) expect(displayWidth(line)).toBeLessThanOrEqual(COLUMNS);
    const root = lines.at(-1)!.split(/ +/).at(-1)!;
    expect((await place.run(["stat", root])).out).toContain(root);
  });

  it("no bar stands between the lines that another program prints", () => {
    expect(atTerminal(`pfs cat text.txt | head -n 2`)).toBe(TEXT.split("\n").slice(0, 2).join("\n") + "\n");
    const kept = atTerminal(`pfs get text.txt -o - > kept`);
    expect(stripVTControlCharacters(kept)).toMatch(
      /text\.txt .* % .*\r?text\.txt: 449 kB in .*, verified\n$/s,
    );
  });

  it("a key is shown whole where its line does not fit anyway", async () => {
    writeFileSync(
      join(place.cwd, "wide.ts"),
      `import { defineProgram, lines } from "packetfs";
       export default defineProgram({
         input: lines(), yields: "groups",
         map: (line, { emit }) => { emit("San José de los Caballeros", "x".repeat(90)); },
         combine: (a: string) => a,
       });`,
    );
    const shown = atTerminal("pfs run wide.ts text.txt --no-check --quiet");
    expect(shown).toContain("San José de los Caballeros  xxx");
  });
});
