/** The commands, in the groups and the order in which help tells of them. */
import { Command } from "commander";
import type { CommanderError } from "commander";
import packageJson from "../../package.json" with { type: "json" };
import { completionCommand } from "./completion.ts";
import { demoCommand } from "./demo/demo.ts";
import { doctorCommand } from "./doctor/doctor.ts";
import { catCommand, getCommand } from "./get.ts";
import { UsageError } from "../errors.ts";
import { formatCommand, formatTour, helpCommand, styleTitle } from "./help.ts";
import { cancelCommand, jobsCommand, lanesCommand, nodesCommand } from "./jobs.ts";
import { lsCommand, rmCommand, statCommand } from "./names.ts";
import { joinCommand, upCommand } from "./network.ts";
import { addGlobalOptions, likelyOption } from "./options.ts";
import { packetsCommand } from "./packets.ts";
import { putCommand } from "./put.ts";
import { runCommand } from "./run.ts";
import { tokenCommand } from "./token.ts";
import { diffCommand, syncCommand } from "./trees.ts";
import type { Host } from "./context.ts";
import { gcCommand, verifyCommand } from "./maintenance.ts";

type MakeCommand = (host: Host) => Command;

const GROUPS: Readonly<Record<string, Readonly<Record<string, MakeCommand>>>> = {
  Files: {
    put: putCommand,
    get: getCommand,
    cat: catCommand,
    ls: lsCommand,
    sync: syncCommand,
    diff: diffCommand,
    stat: statCommand,
    rm: rmCommand,
    packets: packetsCommand,
  },
  Programs: { run: runCommand, jobs: jobsCommand, cancel: cancelCommand },
  Machines: {
    up: upCommand,
    join: joinCommand,
    nodes: nodesCommand,
    lanes: lanesCommand,
    token: tokenCommand,
    demo: demoCommand,
  },
  Maintenance: {
    verify: verifyCommand,
    gc: gcCommand,
    doctor: doctorCommand,
    completion: completionCommand,
    help: helpCommand,
  },
};
/** They read what there is beside them. */
const ABOUT_OTHERS: readonly string[] = ["completion", "help"];

/**
 * The whole command line, or what it is when `word` is its first: with the one command alone that is called so, for to make
 * all of them takes longer than what most do. Parsing it throws UsageError for what it does not understand, and
 * CommanderError after help.
 */
export function createProgram(host: Host, word?: string): Command {
  const program = new Command("pfs")
    .description("files as streams of executable 64-byte packets")
    .version(packageJson.version, "--version", "print the version")
    .helpCommand(false);
  addGlobalOptions(program);
  for (const [heading, commands] of Object.entries(GROUPS)) {
    program.commandsGroup(heading);
    for (const make of makersOf(commands, word)) program.addCommand(make(host));
  }
  for (const command of program.commands)
    settle(command).configureHelp({ styleTitle, formatHelp: formatCommand });
  return settle(program).configureHelp({ styleTitle, formatHelp: formatTour });
}

function makersOf(commands: Readonly<Record<string, MakeCommand>>, word = ""): readonly MakeCommand[] {
  const isAlone =
    Object.values(GROUPS).some((each) => Object.hasOwn(each, word)) && !ABOUT_OTHERS.includes(word);
  if (!isAlone) return Object.values(commands);
  return Object.hasOwn(commands, word) ? [commands[word]!] : [];
}

function settle(command: Command): Command {
  return (
    command
      .exitOverride((error) => {
        throw error.exitCode === 0 ? error : usageError(error, command);
      })
      .helpOption("-h, --help", "print help")
      // Errors are thrown, and told in one place with their exit status.
      .configureOutput({ outputError: () => undefined, writeErr: () => undefined })
  );
}

/** What commander says in its own way, or not in one sentence. */
const REWORDED: readonly (readonly [RegExp, string])[] = [
  [/^\(outputHelp\)$/, "a command is missing"],
  [/^option '.*?(--[\w-]+) <(.*)>' argument missing$/, "$1 needs a value: $1 $2"],
  [/^too many arguments for '(.*)'\. Expected (\d+ arguments?) but got (\d+): .*$/, "$1 takes $2, not $3"],
  [/ takes 0 arguments, not \d+$/, " takes no arguments"],
  [
    /^command-argument value '(.*)' is invalid for argument '(.*)'\. Allowed choices are (.*)\.$/,
    "$2 is one of $3, not '$1'",
  ],
];

/** What commander says, in our way of quoting, and where to read more. */
function usageError({ message }: CommanderError, command: Command): UsageError {
  const [said = ""] = message.replace(/^error: /, "").split("\n");
  const sentence = REWORDED.reduce((text, [pattern, words]) => text.replace(pattern, words), said);
  const [, wrong = ""] = /unknown option '(-[^'=]*)/.exec(message) ?? [];
  const suggestion =
    likelyOption(wrong, [...command.options, ...(command.parent?.options ?? [])]) ??
    /\(Did you mean [^)]*\)/.exec(message)?.[0];
  const hint =
    command.parent === null
      ? '; "pfs help" lists what there is'
      : `; "pfs help ${command.name()}" says what it takes`;
  const text = sentence.replace(/\.$/, "").replaceAll(/'([^']*)'/g, '"$1"');
  return new UsageError(text + (suggestion === undefined ? hint : ` ${suggestion}`));
}
