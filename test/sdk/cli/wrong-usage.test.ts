/** Called wrongly, every command says so in one sentence, with the right exit status, and leaves nothing half done. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { OneProcess } from "./one-process.ts";
import { pfs, temporaryDirectory } from "./run-pfs.ts";

interface Case {
  readonly words: readonly string[];
  readonly status: number;
  readonly says: RegExp;
}

const CASES: readonly Case[] = [
  { words: ["frobnicate"], status: 2, says: /unknown command "frobnicate"; "pfs help" lists/ },
  { words: ["lss"], status: 2, says: /unknown command "lss" \(Did you mean ls\?\)/ },
  { words: ["ls", "--frob"], status: 2, says: /unknown option "--frob"; "pfs help ls" says what it takes/ },
  { words: ["get"], status: 2, says: /missing required argument "NAME"; "pfs help get" says/ },
  { words: ["up", "a"], status: 2, says: /^pfs: up takes no arguments; "pfs help up" says/ },
  { words: ["ls", "--store"], status: 2, says: /^pfs: --store needs a value: --store DIR; "pfs help/ },
  { words: ["put", "missing.txt"], status: 3, says: /^pfs: no such file: missing\.txt$/ },
  { words: ["put", "folder", "--exclude", "a["], status: 2, says: /"a\[" is no pattern: a \[ has no \]/ },
  { words: ["put", "text.txt/part"], status: 1, says: /a part of the path is not a directory/ },
  { words: ["put", "-"], status: 2, says: /needs a name: add --name NAME/ },
  { words: ["put", "text.txt", "--name", "../up"], status: 2, says: /component ".."/ },
  { words: ["put", "text.txt", "--name", ""], status: 2, says: /^pfs: --name is empty; give it a value/ },
  { words: ["put", "text.txt", "--store="], status: 2, says: /^pfs: --store is empty; give it a value/ },
  { words: ["get", "a", "-o", ""], status: 2, says: /^pfs: --output is empty; give it a value/ },
  {
    words: ["put", ""],
    status: 2,
    says: /^pfs: FILE is empty; it takes paths of files or directories, or - for stdin$/,
  },
  { words: ["get", "a", ""], status: 2, says: /^pfs: NAME is empty; it takes a name/ },
  {
    words: ["put", "text.txt", "--name", "x@3"],
    status: 2,
    says: /^pfs: "x@3" cannot name a file: it is how version 3 of "x" is read; choose a name/,
  },
  { words: ["run", "fs.ts", "a", "--out", "x@3"], status: 2, says: /version 3 of "x"/ },
  { words: ["put", "text.txt", "mail@2"], status: 2, says: /version 2 of "mail"/ },
  { words: ["put", "text.txt", "--name", "a\nb"], status: 2, says: /control characters/ },
  { words: ["get", "a", "--range", "nonsense"], status: 2, says: /"nonsense" is not a range: write 100-200/ },
  { words: ["get", "a", "--range", "9-3"], status: 2, says: /the range 9-3 ends before it begins/ },
  { words: ["get", "a", "--range", "-5"], status: 2, says: /"-5" is not a range/ },
  { words: ["get", "a", "--range", "0-99999999999999999999"], status: 2, says: /is not a range/ },
  {
    words: ["ls", "--store", "nowhere"],
    status: 3,
    says: /there is no store at nowhere; "pfs put" makes one/,
  },
  { words: ["ls", "--store", "text.txt"], status: 2, says: /the store text\.txt is a file/ },
  { words: ["put", "text.txt", "--node", "attic"], status: 2, says: /--node needs --at/ },
  {
    words: ["ls", "--node", "attic", "--at", "x"],
    status: 2,
    says: /--node goes with put, get, cat and stat/,
  },
  { words: ["run", "missing.ts", "a"], status: 3, says: /^pfs: no such file: missing\.ts$/ },
  { words: ["run", "broken.ts", "a"], status: 6, says: /^pfs: broken\.ts:2:9: / },
  { words: ["run", "fs.ts", "a"], status: 6, says: /fs\.ts:1:\d+: programs have no file system: "node:fs"/ },
  { words: ["run", "fs.ts", "a", "--args", "{oops"], status: 2, says: /--args is not JSON: / },
  {
    words: ["run", "fs.ts", "a", "--split", "some"],
    status: 2,
    says: /^pfs: --split takes bytes, or a size like 64KiB or 4MB, not "some"$/,
  },
  { words: ["run", "fs.ts"], status: 2, says: /missing required argument "NAME"; "pfs help run"/ },
  { words: ["run", "fs.ts", "a", "--args", "@nope.json"], status: 3, says: /no such file: nope\.json/ },
  { words: ["run", "fs.ts", "a", "--args", "@text.txt"], status: 2, says: /text\.txt is not JSON: / },
  { words: ["help", "lss"], status: 2, says: /unknown command "lss" \(Did you mean ls\?\)/ },
  {
    words: ["packets", "a", "--depth", "deep"],
    status: 2,
    says: /^pfs: --depth takes a whole number from 0 on, not "deep"$/,
  },
  { words: ["--json=1"], status: 2, says: /unknown option "--json=1"/ },
  { words: ["--verbose"], status: 2, says: /^pfs: a command is missing; "pfs help" lists what there is$/ },
  { words: ["completion", "tcsh"], status: 2, says: /^pfs: SHELL is one of bash, zsh, fish, not "tcsh"; / },
  { words: ["put", "text.txt", "--name", "/a"], status: 2, says: /an empty component; choose another name$/ },
  {
    words: ["join", "x"],
    status: 2,
    says: /pfs1\.join\. at its beginning, that "pfs up" or "pfs token add" printed$/,
  },
  { words: ["-V"], status: 2, says: /^pfs: unknown option "-V" \(Did you mean --version\?\)$/ },
  { words: ["ls", "-q"], status: 2, says: /unknown option "-q" \(Did you mean --quiet\?\)/ },
  { words: ["up", "--port=1"], status: 2, says: /unknown option "--port=1" \(Did you mean --listen\?\)/ },
  {
    words: ["run", "fs.ts", "a", "-o", "b"],
    status: 2,
    says: /unknown option "-o" \(Did you mean --out\?\)/,
  },
  { words: ["get", "a", "--out", "b"], status: 2, says: /"--out" \(Did you mean --output\?\)/ },
  // There is no such option of this command.
  { words: ["ls", "-o", "b"], status: 2, says: /unknown option "-o"; "pfs help ls" says what it takes/ },
  ...["-1", "1.0", "5.0", "1e3", "0x10", " 5", "+5", "9007199254740993"].flatMap((text): Case[] => [
    {
      words: ["up", "--workers", text],
      status: 2,
      says: /--workers takes a whole number from 0 to 1,024, not "/,
    },
    { words: ["jobs", "--limit", text], status: 2, says: /--limit takes a whole number from 0 on, not "/ },
    { words: ["get", "a", "--range", `${text}-`], status: 2, says: /is not a range: write 100-200/ },
  ]),
  { words: ["join", "x", "--workers", "1025"], status: 2, says: /from 0 to 1,024, not "1025"/ },
  {
    words: ["join", "x", "--label", "the attic"],
    status: 2,
    says: /--label takes up to 64 .*, not "the attic"/,
  },
  { words: ["up", "--label", "a\u001b[31m"], status: 2, says: /--label takes .*, not "a\\u001b\[31m"/ },
  { words: ["up", "--label", "é".repeat(65)], status: 2, says: /--label takes up to 64/ },
  { words: ["jobs", "no-such-job"], status: 3, says: /there is no store/ },
  { words: ["up", "--listen", "nonsense"], status: 2, says: /"nonsense" is not HOST:PORT/ },
  { words: ["up", "--listen", "127.0.0.1:70000"], status: 2, says: /is not HOST:PORT/ },
];

let cwd: string;
let commands: OneProcess;
beforeAll(async () => {
  cwd = await temporaryDirectory();
  await mkdir(join(cwd, "folder"));
  for (const name of ["text.txt", "mail@2"]) await writeFile(join(cwd, name), "some text\n");
  await writeFile(join(cwd, "broken.ts"), "const a = 1;\nconst b c = 2;\n");
  await writeFile(
    join(cwd, "fs.ts"),
    'import { readFileSync } from "node:fs";\nexport default readFileSync;\n',
  );
  commands = await OneProcess.start(cwd);
});
afterAll(() => commands[Symbol.asyncDispose]());

describe("called wrongly", () => {
  it.each(CASES.map((each) => [each.words.join(" "), each] as const))(
    "pfs %s",
    async (_name, { words, status, says }) => {
      const finished = await commands.run(words);
      const lines = finished.err.trimEnd().split("\n");
      expect(lines).toHaveLength(1);
      expect(lines[0]).toMatch(says);
      expect(lines[0]).toMatch(/^pfs: /);
      expect(finished.out).toBe("");
      expect(finished.status).toBe(status);
    },
  );

  it("a process of its own says the same, and ends with that status", async () => {
    for (const status of [1, 2, 3, 6]) {
      const { words } = CASES.find((each) => each.status === status)!;
      const { out, err, ...own } = await pfs(words, { cwd });
      expect({ out, err, status: own.status }).toEqual(await commands.run(words));
    }
  });

  it("tells as JSON what is wrong, when it is asked to", async () => {
    for (const words of [["lss"], ["get", "a", "--range", "x"], ["put", "missing.txt"]]) {
      const { out, err, status } = await pfs([...words, "--json"], { cwd });
      const { schema, error } = JSON.parse(out) as { schema: number; error: Record<string, unknown> };
      expect(schema).toBe(1);
      expect(error).toMatchObject({ code: expect.stringMatching(/^PFS_/), message: expect.any(String) });
      expect(err).toBe("");
      expect(status).toBe(words[0] === "put" ? 3 : 2);
    }
  });

  it("does not count an empty or switched-off variable", async () => {
    const environment = { PACKETFS_JSON: "0", PACKETFS_STORE: "", PACKETFS_QUIET: "false" };
    const { out, err } = await pfs(["get", "a", "--range", "x"], { cwd, environment });
    expect(out).toBe("");
    expect(err).toContain("is not a range");
  });

  it("takes an option's variable for the option", async () => {
    const limited = await pfs(["jobs"], { cwd, environment: { PACKETFS_LIMIT: "1e3" } });
    expect(limited.err).toBe('pfs: PACKETFS_LIMIT takes a whole number from 0 on, not "1e3"\n');
    const { status, err } = await pfs(["ls"], { cwd, environment: { PACKETFS_STORE: "not-there" } });
    expect(err).toContain("there is no store at not-there");
    expect(status).toBe(3);
  });
});
