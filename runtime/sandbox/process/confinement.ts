/**
 * What a process gives up for good before it becomes Node, by system calls that need no privileges: files, by Landlock, and
 * system calls, by a filter. No program of util-linux makes them everywhere, so that Perl does, which Debian has in every
 * system, and whose `syscall` is all that is wanted of it.
 *
 *   prlimit ──▶ perl: no new privileges, Landlock, filter ──▶ node
 */
import { basename, dirname } from "node:path";
import { findProgram } from "../../find-program.ts";
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

interface Numbers {
  readonly openat: number;
  readonly prctl: number;
  readonly seccomp: number;
}

/** Numbers of system calls; those of Landlock are the same everywhere. */
const NUMBERS: Readonly<Partial<Record<NodeJS.Architecture, Numbers>>> = {
  x64: { openat: 257, prctl: 157, seccomp: 317 },
  arm64: { openat: 56, prctl: 167, seccomp: 277 },
};
const CREATE_RULESET = 444;
const ADD_RULE = 445;
const RESTRICT_SELF = 446;
/** What a rule of Landlock may allow of what lies beneath a path. */
const EXECUTE = 1;
const READ_FILE = 4;
const READ_FOLDER = 8;
/** O_PATH. */
const PATH_ONLY = 0o10_000_000;
/** O_CLOEXEC. */
const CLOSES_ON_EXECUTION = 0o2_000_000;
const NO_NEW_PRIVILEGES = 38;
const AT_WORKING_DIRECTORY = -100;
const FILTER_MODE = 1;

/** In /proc a process finds its threads, and its descriptors. */
const ITSELF = "/proc/self";
const LOADER = /^ld[-.\d]/;

/** The strongest first; none where there is no Perl, or where the numbers of a processor's system calls are not known. */
export function possibleConfinements(): Confinement[] {
  const perl = findProgram("perl");
  const filter = systemCallFilter(process.arch);
  const numbers = NUMBERS[process.arch];
  if (process.platform !== "linux" || !perl || !filter || !numbers) return [];
  return [true, false].map((landlock) => {
    const script = [...start(numbers), ...(landlock ? restrict(numbers) : []), ...load(filter, numbers)].join(
      "\n",
    );
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

function start({ prctl }: Numbers): string[] {
  return [
    'sub made { my ($what, $result) = @_; return $result if $result >= 0; print STDERR "$what: $!\\n"; exit 1 }',
    `made("no new privileges", syscall(${prctl}, ${NO_NEW_PRIVILEGES}, 1, 0, 0, 0));`,
  ];
}

/** Forbids all that the kernel's edition of Landlock knows of, but for the rules, which are its arguments up to "--". */
function restrict({ openat }: Numbers): string[] {
  return [
    `my $edition = made("Landlock", syscall(${CREATE_RULESET}, 0, 0, 1));`,
    "my $files = $edition > 4 ? 0xffff : $edition > 2 ? 0x7fff : $edition > 1 ? 0x3fff : 0x1fff;",
    "my $handled = pack('Q3', $files, 3, 3);",
    "my $bytes = $edition > 5 ? 24 : $edition > 3 ? 16 : 8;",
    `my $rules = made("Landlock", syscall(${CREATE_RULESET}, $handled, $bytes, 0));`,
    "while ($ARGV[0] ne '--') {",
    "  my ($rights, $path) = shift =~ /^(\\d+):(.*)$/s;",
    // A rule holds as long as the kernel knows the file. It forgets folders of /proc when it wants memory, but for open ones:
    // this one stays open until Node has looked what it was given, and closes it.
    `  my $flags = ${PATH_ONLY} | ($path eq '${ITSELF}' ? 0 : ${CLOSES_ON_EXECUTION});`,
    `  my $file = made($path, syscall(${openat}, ${AT_WORKING_DIRECTORY}, $path, $flags, 0));`,
    "  my $rule = pack('Ql', $rights, $file);",
    `  made("Landlock: $path", syscall(${ADD_RULE}, $rules, 1, $rule, 0));`,
    "}",
    `made("Landlock", syscall(${RESTRICT_SELF}, $rules, 0));`,
  ];
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
