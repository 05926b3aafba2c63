/**
 * What a process gives up for good by system calls that need no privileges, as lines of Perl, which Debian has in every system, and
 * whose `syscall` is all that is wanted of it: no program of util-linux makes these calls everywhere.
 */

export interface Numbers {
  readonly openat: number;
  readonly prctl: number;
  readonly seccomp: number;
}

/** Numbers of system calls; those of Landlock are the same everywhere. */
export const NUMBERS: Readonly<Partial<Record<NodeJS.Architecture, Numbers>>> = {
  x64: { openat: 257, prctl: 157, seccomp: 317 },
  arm64: { openat: 56, prctl: 167, seccomp: 277 },
};
const CREATE_RULESET = 444;
const ADD_RULE = 445;
const RESTRICT_SELF = 446;
/** What a rule of Landlock may allow of what lies beneath a path. */
export const EXECUTE = 1;
export const WRITE_FILE = 2;
export const READ_FILE = 4;
export const READ_FOLDER = 8;
/** What else than reading and writing is done with devices. */
export const USE_DEVICE = 0x8000;
/** O_PATH. */
const PATH_ONLY = 0o10_000_000;
/** O_CLOEXEC. */
const CLOSES_ON_EXECUTION = 0o2_000_000;
const NO_NEW_PRIVILEGES = 38;
const AT_WORKING_DIRECTORY = -100;

/** In /proc a process finds its threads, and its descriptors. */
export const ITSELF = "/proc/self";

/** To be executed first. */
export function beginScript({ prctl }: Numbers): string[] {
  return [
    'sub made { my ($what, $result) = @_; return $result if $result >= 0; print STDERR "$what: $!\\n"; exit 1 }',
    `made("no new privileges", syscall(${prctl}, ${NO_NEW_PRIVILEGES}, 1, 0, 0, 0));`,
  ];
}

/** Forbids all that the kernel's edition of Landlock knows of, but for the rules, which are its arguments up to "--". */
export function restrictFiles({ openat }: Numbers): string[] {
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
    "  my $rule = pack('Ql', $rights & $files, $file);",
    `  made("Landlock: $path", syscall(${ADD_RULE}, $rules, 1, $rule, 0));`,
    "}",
    `made("Landlock", syscall(${RESTRICT_SELF}, $rules, 0));`,
  ];
}
