/** What people see at a terminal of 80 columns, which script(1) plays here. */
import { appendFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { beforeAll, describe, expect, it } from "vitest";
import { HubTokens } from "../../../nodes/hub/tokens.ts";
import { displayWidth } from "../../../sdk/cli/format.ts";
import { makePlace, PFS, TEXT } from "./run-pfs.ts";
import type { Place } from "./run-pfs.ts";
import { runSync } from "../../suites/run-sync.ts";

const HAS_SCRIPT = process.platform === "linux" && runSync("script", ["--version"]).status === 0;
const COLUMNS = 80;
/** Whatever is done within a tenth of a second of a command's start has no bar. */
const LONG_BYTES = 96 * 1024 * 1024;
const LONG_NAME = "größe – 名前 and other words that make a name long.bin";

let place: Place;
beforeAll(async () => {
  place = await makePlace();
  writeFileSync(join(place.cwd, LONG_NAME), Buffer.alloc(LONG_BYTES, TEXT));
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
  const { stdout, status } = runSync("script", ["-qec", `/bin/sh -c '${script}'`, "/dev/null"], {
    cwd: place.cwd,
    env,
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
      expect(line).toMatch(/^größe – 名前 and other …  [━─]* *\d+ % .* of  ?101 MB/);
    }
    // The last one is erased before anything else is said.
    const [result = ""] = shown.split("\r\u001b[K").slice(-1);
    expect(result).toMatch(/^[0-9a-f]{64} {2}größe/);
    expect(drawn.at(-2)).toMatch(/^stored 101 MB in .*: [\d,]+ chunks?, [\d,]+ new, /);
  });

  it("ls fits, and the roots that it shows name their files", async () => {
    const [head, ...lines] = stripVTControlCharacters(atTerminal("pfs ls")).trimEnd().split("\n");
    expect(head).toMatch(/^NAME +SIZE +VERSION +STORED +ROOT$/);
    expect(lines.length).toBeGreaterThan(0);
    for (const line of lines) expect(displayWidth(line)).toBeLessThanOrEqual(COLUMNS);
    const root = lines.at(-1)!.split(/ +/).at(-1)!;
    expect((await place.run(["stat", root])).out).toContain(root);
  });

  it("no bar stands between the lines that another program prints", async () => {
    await place.json(["put", LONG_NAME]);
    const slow = atTerminal(`pfs cat "${LONG_NAME}" | (head -c 20000000 > /dev/null; echo read)`);
    expect(slow).toBe("read\n");
    expect(atTerminal(`pfs cat text.txt | head -n 2`)).toBe(TEXT.split("\n").slice(0, 2).join("\n") + "\n");
    const kept = atTerminal(`pfs get "${LONG_NAME}" -o - > kept`);
    expect(stripVTControlCharacters(kept)).toMatch(/ % .*größe .*: 101 MB in .*,\s+verified\n$/s);
  });

  it("what is told of bytes stands below them, on a line of its own", () => {
    const shown = stripVTControlCharacters(atTerminal("pfs get text.txt --range 0-4"));
    expect(shown).toMatch(/^line\ntext\.txt: 4 B in .*, verified\n$/);
    expect(stripVTControlCharacters(atTerminal("pfs get text.txt --range 0-19"))).toMatch(
      /^line 0 of the text\ntext\.txt: 19 B/,
    );
  });

  it("a name that nobody would see is quoted", async () => {
    await place.json(["put", "text.txt", "--name", " "]);
    await place.json(["put", "text.txt", "--name", "a\u200b"]);
    const shown = stripVTControlCharacters(atTerminal(`pfs ls; pfs stat " "`));
    expect(shown).toMatch(/^" " +449 kB/m);
    expect(shown).toMatch(/^"a\u200b" +449 kB/m);
    expect(shown).toMatch(/^name +" "$/m);
    expect((await place.run(["ls", " "])).out).toMatch(/^ \t448890\t/);
    await place.run(["rm", " ", "a\u200b"]);
  });

  it("a list of tokens says in which zone its times are, and gives a pipe those of UTC", async () => {
    const directory = join(place.cwd, "tokens");
    mkdirSync(directory);
    const tokens = new HubTokens(directory);
    await tokens.start();
    await tokens.printed("127.0.0.1:7400");
    const terms = { name: "rita", role: "reader", quota: undefined } as const;
    await tokens.add({ ...terms, expiresAt: Date.now() + 1e9 });
    expect(atTerminal("pfs token ls --store tokens")).toMatch(/EXPIRES \(LOCAL\)/);
    const piped = await place.run(["token", "ls", "--store", "tokens"]);
    expect(piped.out).toMatch(/^rita\treader\t\d{4}-\d\d-\d\dT[\d:.]+Z\t/m);
  });

  it("messages break between words", () => {
    const said = (rest: string): string =>
      stripVTControlCharacters(atTerminal(`pfs ls --at garbage ${rest} || true`));
    const shown = said("");
    const lines = shown.trimEnd().split("\n");
    expect(lines.length).toBeGreaterThan(1);
    for (const line of lines) expect(displayWidth(line)).toBeLessThanOrEqual(COLUMNS);
    // Whoever keeps them has them as they are.
    expect(shown.replaceAll("\n  ", " ")).toBe(said("2> told; cat told"));
    expect(said("--json 2>&1").trimEnd().split("\n")).toHaveLength(1);
  });

  it("doctor's paths do not run over the edge", () => {
    const shown = stripVTControlCharacters(atTerminal("pfs doctor || true"));
    for (const line of shown.split("\n")) expect(displayWidth(line)).toBeLessThanOrEqual(COLUMNS);
    // In one piece where a line has room for it.
    const path = `(${process.execPath})`;
    expect(path.length < COLUMNS - 4 ? shown : shown.replaceAll(/\n {24}/g, "")).toContain(path);
    expect(shown).toMatch(/^walls\n.*\d+ of \d+ stand +/m);
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

  it("values are shown as Node shows them, and are JSON in a pipe", () => {
    const program = (name: string, rest: string): void =>
      writeFileSync(
        join(place.cwd, name),
        `import { defineProgram, lines } from "packetfs";
         export default defineProgram({ input: lines(), ${rest}, combine: (a: unknown) => a });`,
      );
    program("nan.ts", "map: () => NaN");
    program("many.ts", "map: () => Array.from({ length: 256 }, (_, index) => index)");
    program("odd.ts", 'map: () => [-0, 2n ** 70n, new Map([["a", NaN]]), "\\u009b31m\\u202e"]');
    program(
      "groups.ts",
      'yields: "groups", map: (_, { emit }) => { emit("key", [NaN, 1n]); emit("text", "as it is"); }',
    );
    const run = (name: string, rest = ""): string =>
      atTerminal(`pfs run ${name} text.txt --no-check --quiet ${rest}`);
    expect(run("nan.ts")).toBe("NaN\n");
    const lines = run("many.ts").trimEnd().split("\n");
    expect(lines.length).toBeLessThan(30);
    for (const line of lines) expect(displayWidth(line)).toBeLessThanOrEqual(COLUMNS);
    expect(JSON.parse(lines.join(""))).toHaveLength(256);
    expect(run("odd.ts")).toBe("[ -0, 1180591620717411303424n, Map(1) { 'a' => NaN }, '\\x9B31m\\u202e' ]\n");
    expect(stripVTControlCharacters(run("groups.ts"))).toBe(
      "KEY   VALUE\nkey   [ NaN, 1n ]\ntext  as it is\n",
    );
    expect(run("groups.ts", "| cat")).toBe(
      'key\t[{"$":"number","v":"NaN"},{"$":"bigint","v":"1"}]\ntext\tas it is\n',
    );
  });

  it("jobs fit, whatever went wrong with them, and one is shown whole", () => {
    writeFileSync(
      join(place.cwd, "a-program-with-a-name-that-is-long.ts"),
      `import { defineProgram, lines } from "packetfs";
       export default defineProgram({
         input: lines(), map: () => { throw new Error("a long story of what went wrong: " + "x".repeat(200)); },
       });`,
    );
    const words = "pfs run a-program-with-a-name-that-is-long.ts text.txt --no-check";
    const shown = stripVTControlCharacters(atTerminal(`${words} 2> told; pfs jobs; cat told`));
    const [head, job, ...rest] = shown.split("\n");
    expect(head).toMatch(/^JOB +PROGRAM +STATE +PACKETS +TIME +STARTED +ERROR$/);
    expect(displayWidth(job!)).toBeLessThanOrEqual(COLUMNS);
    expect(job).toMatch(
      /^[0-9a-f]{8} {2}a-program.*… +failed +0\/\d+ +[\d.]+m?s +(now|\d+s ago) +Error: a long st.*…$/,
    );
    expect(rest).toContain(`"pfs jobs JOB" shows an error whole`);
    expect(rest.some((line) => line.startsWith("pfs: "))).toBe(true);
    const card = stripVTControlCharacters(atTerminal(`pfs jobs ${job!.split(" ")[0]}`));
    expect(card).toMatch(
      /^job +[0-9a-f]{8}\nprogram +a-program-with-a-name-that-is-long\.ts\nstate +failed\n/,
    );
    expect(card).toMatch(
      /error +PFS_PROGRAM_THREW: .*x{200}.*\n +at .*a-program-with-a-name-that-is-long\.ts:3:\d+/,
    );
  });

  it("jobs with kernels say which engine computed them, and one of them says why", () => {
    const kernel = { kernel: "search", engine: "gpu", engineClass: "nvidia-0123456789ab", calls: 32 };
    const job = {
      job: "0123abcd",
      program: "embedding-search.ts",
      state: "done",
      startedAt: 1_790_000_000_000,
      milliseconds: 1500,
      done: 32,
      tasks: 32,
      kernels: [
        {
          ...kernel,
          measuredMs: 1234.5,
          predictedMs: 1000,
          reason: "it should take 1s, and 44s on CPUs, as calculated",
        },
      ],
    };
    appendFileSync(join(place.cwd, "store", "jobs.jsonl"), `${JSON.stringify(job)}\n`);
    const [head, ...rows] = stripVTControlCharacters(atTerminal("pfs jobs")).split("\n");
    expect(head).toMatch(/^JOB +PROGRAM +STATE +PACKETS +TIME +STARTED +ENGINE +ERROR$/);
    const row = rows.find((line) => line.startsWith(job.job))!;
    expect(row).toMatch(/ago +gpu$/);
    expect(displayWidth(row)).toBeLessThanOrEqual(COLUMNS);
    const card = stripVTControlCharacters(atTerminal(`pfs jobs ${job.job}`))
      .trimEnd()
      .split("\n");
    expect(card.slice(-2)).toEqual([
      "kernel   search: 32 calls on the GPU nvidia-0123456789ab took 1.2s, 1s expected:",
      "         it should take 1s, and 44s on CPUs, as calculated",
    ]);
  });
});
