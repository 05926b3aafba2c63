/** What --help says: of the whole command line a tour, of a command what it takes and an example. */
import { styleText } from "node:util";
import { Command } from "commander";
import type { Argument, Help, Option } from "commander";
import { isUsed, onRun } from "./context.ts";
import type { Host } from "./context.ts";

const TOUR: readonly Item[] = [
  ["pfs put access.log", "store a file; what is there already costs nothing"],
  ["pfs ls", "what is stored, under which name and root"],
  ["pfs packets access.log", "the instructions that the file is made of"],
  ["pfs run word-count.ts access.log", "compute on it, sandboxed, on every core"],
  ["pfs get access.log", "have it back, every byte verified"],
  ["pfs up", "make this machine a hub that others join"],
  ["pfs join TOKEN", "on another machine: lend it cores and disk"],
  ["pfs demo", "watch all of it happen, with nothing left behind"],
];

const EXIT_STATUS =
  "0 ok, 1 failed, 2 called wrongly, 3 not found, 4 damaged bytes, 5 unreachable or timed out, " +
  "6 the program failed or hit a limit, 130 interrupted, 143 terminated";

/** A term and what it means. */
type Item = readonly [term: string, text: string];

interface Section {
  readonly title: string;
  readonly items: readonly Item[];
}

const INDENT = "  ";
const TEXT_COLUMNS_MIN = 24;
const WIDTH_MAX = 110;

export function helpCommand(host: Host): Command {
  const command = new Command("help")
    .summary("print help, of a command more")
    .description("Print help: of the whole command line, or all of one command.")
    .argument("[COMMAND]", "such as put")
    .addHelpText("after", example("pfs help run"));
  return onRun(command, host, async (_context, [name]) => {
    const program = command.parent!;
    if (name === undefined) return program.outputHelp();
    const asked = program.commands.find((each) => each.name() === name);
    if (asked !== undefined) return asked.outputHelp();
    // Says that there is none, and which was meant.
    await program.parseAsync([name], { from: "user" });
  });
}

/** The help of the whole command line. */
export function formatTour(program: Command, help: Help): string {
  const groups = new Map<string, Item[]>();
  for (const command of help.visibleCommands(program)) {
    const items = groups.get(command.helpGroup()) ?? [];
    groups.set(command.helpGroup(), [...items, [signature(command), command.summary()]]);
  }
  return page(help, {
    head: `pfs ${program.version() ?? ""}: ${program.description()}`,
    sections: [
      { title: "A tour", items: TOUR },
      ...[...groups].map(([title, items]) => ({ title, items })),
      { title: "On every command", items: help.visibleOptions(program).map(optionItem) },
    ],
    tail: [
      [help.styleTitle("Exit status"), wrap(help, EXIT_STATUS, INDENT)].join("\n"),
      `"pfs help COMMAND" says more, with an example.`,
    ],
  });
}

/** The help of one command. */
export function formatCommand(command: Command, help: Help): string {
  return page(help, {
    head: `Usage: pfs ${signature(command)} [options]\n\n${wrap(help, command.description(), "")}`,
    sections: [
      { title: "Arguments", items: help.visibleArguments(command).map(argumentItem) },
      { title: "Options", items: command.options.map(optionItem) },
      { title: "On every command", items: globalOptions(command).map(optionItem) },
    ],
    tail: [],
  });
}

function globalOptions(command: Command): readonly Option[] {
  return (command.parent?.options ?? []).filter((option) => isUsed(command, option));
}

/** How a command's help ends. */
export function example(text: string): () => string {
  return () => `\n${styleTitle("Example")}\n${INDENT}${text}`;
}

/** Headings are bold on a terminal. */
export function styleTitle(text: string): string {
  return styleText("bold", text, { stream: process.stdout });
}

/** "get NAME|ROOT": what is typed. */
function signature(command: Command): string {
  const operands = command.registeredArguments.map((argument) => {
    const name = argument.name() + (argument.variadic ? "…" : "");
    return argument.required ? name : `[${name}]`;
  });
  return [command.name(), ...operands].join(" ");
}

interface Page {
  readonly head: string;
  readonly sections: readonly Section[];
  readonly tail: readonly string[];
}

function page(help: Help, { head, sections, tail }: Page): string {
  const filled = sections.filter(({ items }) => items.length > 0);
  const termWidth = Math.max(...filled.flatMap(({ items }) => items.map(([term]) => term.length)));
  const gap = INDENT + " ".repeat(termWidth) + INDENT;
  const lines = ([term, text]: Item): string =>
    INDENT + term.padEnd(termWidth) + INDENT + wrap(help, text, gap).slice(gap.length);
  const blocks = [
    head,
    ...filled.map(({ title, items }) => [help.styleTitle(title), ...items.map(lines)].join("\n")),
    ...tail,
  ];
  return `${blocks.join("\n\n")}\n`;
}

function wrap(help: Help, text: string, indent: string): string {
  const width = Math.min(help.helpWidth ?? 80, WIDTH_MAX);
  return help
    .boxWrap(text, Math.max(TEXT_COLUMNS_MIN, width - indent.length))
    .split("\n")
    .map((line) => indent + line)
    .join("\n");
}

function optionItem(option: Option): Item {
  const flags = option.flags.replace(/[<>]/g, "");
  const text = option.description;
  return [flags, option.envVar === undefined ? text : `${text} (${option.envVar})`];
}

function argumentItem(argument: Argument): Item {
  return [argument.name(), argument.description];
}
