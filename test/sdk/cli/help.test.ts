import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { createProgram } from "../../../sdk/cli/commands.ts";
import { Output } from "../../../sdk/cli/output.ts";
import { makePlace, PFS, pfs } from "./run-pfs.ts";
import { outputSync } from "../../suites/run-sync.ts";

const output = new Output({ json: false, quiet: true, verbose: false });

function helpOf(name?: string): string {
  const program = createProgram({ output, signal: new AbortController().signal, finish: () => undefined });
  const command = name === undefined ? program : program.commands.find((each) => each.name() === name)!;
  let text = "";
  command.configureOutput({ writeOut: (part) => (text += part), getOutHelpWidth: () => 80 });
  command.outputHelp();
  return text;
}

function commandNames(): string[] {
  return [...helpOf().matchAll(/^ {2}([a-z]+)(?: [A-Z[].*?)? {2,}\S/gm)].map(([, name]) => name!);
}

describe("help", () => {
  it("is data: pfs alone, and pfs --help", async () => {
    const [alone, asked] = await Promise.all([pfs([]), pfs(["--help"])]);
    expect([asked.status, asked.err]).toEqual([0, ""]);
    expect(asked.out).toContain("A tour\n  pfs put");
    expect(alone).toEqual(asked);
  });

  it("names every command, its operands and what it does", () => {
    const wanted = "put get cat ls stat rm packets run jobs cancel up join nodes lanes verify gc doctor";
    expect(commandNames()).toEqual(expect.arrayContaining(wanted.split(" ")));
    expect(helpOf()).toMatch(/^ {2}run PROGRAM NAME… {2,}run a program over stored files$/m);
  });

  it("of every command has an example, and the variable of every option", () => {
    for (const name of commandNames()) {
      const text = helpOf(name);
      expect(text).toMatch(new RegExp(`^Usage: pfs ${name}[ A-Z]`));
      expect(text).toMatch(/\nExample\n {2}.*pfs /);
      const [, options = ""] = text.split(/\n(?:Options|On every command)\n/);
      const items = options.split(/\n(?= {2}-)/).filter((item) => /^ {2}--?\w/.test(item));
      for (const item of items) expect(item).toMatch(/PACKETFS_[A-Z]+|--version/);
    }
  });

  it("fits a terminal of 80 columns", () => {
    for (const name of [undefined, ...commandNames()]) {
      const [text] = helpOf(name).split("\nExample\n");
      for (const line of text!.split("\n")) expect(line.length).toBeLessThanOrEqual(80);
    }
  });
});

it("completion quotes names, and runs nothing that stands in them", async () => {
  const { cwd, run, json } = await makePlace();
  const name = 'a $(touch "$HOME/ran") `touch ran` b';
  await json(["put", "text.txt", "--name", name]);
  writeFileSync(join(cwd, "pfs.bash"), (await run(["completion", "bash"])).out);
  const script = `pfs() { "$NODE" "$PFS" "$@"; }; . ./pfs.bash
    COMP_WORDS=(pfs get a); COMP_CWORD=2; _pfs; eval "printf '%s\\n' \${COMPREPLY[0]}"
    COMP_WORDS=(pfs ver); COMP_CWORD=1; _pfs; echo "\${COMPREPLY[@]}"`;
  const env = {
    PATH: process.env["PATH"],
    HOME: cwd,
    NODE: process.execPath,
    PFS,
    PACKETFS_STORE: join(cwd, "store"),
  };
  expect(outputSync("bash", ["-c", script], { cwd, env })).toBe(`${name}\nverify\n`);
  expect(existsSync(join(cwd, "ran"))).toBe(false);
});

it("help is of a command where one is named, by every way to ask", async () => {
  const [help, flag, short] = await Promise.all([
    pfs(["help", "get"]),
    pfs(["get", "--help"]),
    pfs(["get", "-h"]),
  ]);
  expect(help).toMatchObject({ status: 0, err: "" });
  expect(help.out).toMatch(/^Usage: pfs get NAME…/);
  expect([flag, short]).toEqual([help, help]);
  expect(await pfs(["help"])).toEqual(await pfs([]));
  const unknown = await pfs(["help", "gte"]);
  expect(unknown).toMatchObject({
    status: 2,
    out: "",
    err: 'pfs: unknown command "gte" (Did you mean get?)\n',
  });
});
