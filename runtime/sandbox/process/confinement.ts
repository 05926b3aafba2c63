/**
 * What a process gives up for good before it becomes Node, by system calls that need no privileges: files, by Landlock, and
 * system calls, by a filter. No program of util-linux makes them everywhere, so that Perl does, which Debian has in every
 * system, and whose `syscall` is all that is wanted of it.
 *
 *   prlimit ──▶ perl: no new privileges, Landlock, filter ──▶ node
 */
import { basename, dirname } from "node:path";
import { findProgram } from "../../find-program.ts";
import {
  EXECUTE,
  ITSELF,
  NUMBERS,
  READ_FILE,
  READ_FOLDER,
  restrictFiles,
  beginScript,
} from "../../landlock.ts";
import type { Numbers } from "../../landlock.ts";
import { isDirectory, sharedObjects } from "./enclosures.ts";
import { WallName } from "./wall-states.ts";
import type { ConfinedCommand } from "./enclosures.ts";
import { INSTRUCTION_BYTES, systemCallFilter } from "./system-calls.ts";
import type { SystemCallFilter } from "./system-calls.ts";

/** Both walls, or the one that more kernels have; they stand together or not at all. */
export interface Confinement {
  readonly names: readonly WallName[];
  /** The same, with what makes the walls before it. */
  readonly confine: (confined: ConfinedCommand) => ConfinedCommand;
}

const FILTER_MODE = 1;
const LOADER = /^ld[-.\d]/;

/** The strongest first; none where there is no Perl, or where the numbers of a processor's system calls are not known. */
export function possibleConfinements(): Confinement[] {
  const perl = findProgram("perl");
  const filter = systemCallFilter(process.arch);
  const numbers = NUMBERS[process.arch];
  if (process.platform !== "linux" || !perl || !filter || !numbers) return [];
  return [true, false].map((landlock) => {
    const script = [
      ...beginScript(numbers),
      ...(landlock ? restrictFiles(numbers) : []),
      ...load(filter, numbers),
    ].join("\n");
    return {
      names: landlock ? [WallName.systemCalls, WallName.landlock] : [WallName.systemCalls],
      confine: (confined) => {
        const { command, reads } = confined;
        const rules = landlock ? rulesFor(confined) : [];
        return {
          ...confined,
          command: [perl, "-e", script, "--", ...rules, "--", ...command],
          reads: [...reads, perl],
        };
      },
    };
  });
}

/** Executes what follows "--". */
function load({ program, processOffsets }: SystemCallFilter, { seccomp }: Numbers): string[] {
  return [
    "shift;",
    `my $filter = pack('H*', '${program.toString("hex")}');`,
    ...processOffsets.map((at) => `substr($filter, ${at}, 4) = pack('L', $$);`),
    `my $program = pack('Sx6P', ${program.length / INSTRUCTION_BYTES}, $filter);`,
    `made("system call filter", syscall(${seccomp}, ${FILTER_MODE}, 0, $program));`,
    "exec { $ARGV[0] } @ARGV;",
    'print STDERR "$ARGV[0]: $!\\n"; exit 1',
  ];
}

/** Each as `rights:path`. */
function rulesFor({ command, reads }: ConfinedCommand): string[] {
  const libraries = sharedObjects();
  const executed = [command[0]!, ...libraries.filter((path) => LOADER.test(basename(path)))];
  const read = new Set([...reads, ...libraries.map((path) => dirname(path)), ITSELF]);
  return [
    ...executed.map((path) => `${EXECUTE | READ_FILE}:${path}`),
    ...[...read].map((path) => `${isDirectory(path) ? READ_FILE | READ_FOLDER : READ_FILE}:${path}`),
  ];
}
