/**
 * What an executor process asks of the kernel, as a filter for it: a BPF program of seccomp. What Node, V8 and isolated-vm do
 * not call in an executor does not exist there, so that their fallbacks for old kernels are taken: no file can be written or
 * made, and there are no sockets, processes, signals to others, namespaces, keys, or tracing.
 */
import { endianness } from "node:os";

/** A system call's numbers on x64 and arm64; undefined where there is none of that name. */
type Numbers = readonly [x64: number, arm64?: number];

/** Only when an argument, masked, is one of these values. */
interface Condition {
  readonly argument: number;
  readonly mask?: number;
  readonly values: readonly number[];
}

interface Architecture {
  /** As the kernel's audit calls it. */
  readonly audit: number;
  readonly column: 0 | 1;
}

/** Stands for the number of the process that is filtered, which is known to itself. */
const OWN_PROCESS = 0xffff_ffff;

const ALLOWED: Readonly<Record<string, Numbers>> = {
  // What is called most stands first.
  futex: [202, 98],
  read: [0, 63],
  write: [1, 64],
  epoll_pwait: [281, 22],
  clock_gettime: [228, 113],
  madvise: [28, 233],
  mprotect: [10, 226],
  mmap: [9, 222],
  munmap: [11, 215],
  pread64: [17, 67],
  getpid: [39, 172],
  sched_yield: [24, 124],
  // Memory.
  brk: [12, 214],
  mremap: [25, 216],
  mincore: [27, 232],
  membarrier: [324, 283],
  pkey_mprotect: [329, 288],
  pkey_alloc: [330, 289],
  pkey_free: [331, 290],
  // What is open, and files that can be read.
  close: [3, 57],
  close_range: [436, 436],
  stat: [4],
  lstat: [6],
  fstat: [5, 80],
  newfstatat: [262, 79],
  statx: [332, 291],
  statfs: [137, 43],
  fstatfs: [138, 44],
  access: [21],
  faccessat: [269, 48],
  faccessat2: [439, 439],
  readlink: [89],
  readlinkat: [267, 78],
  getcwd: [79, 17],
  getdents64: [217, 61],
  lseek: [8, 62],
  readv: [19, 65],
  writev: [20, 66],
  preadv: [295, 69],
  preadv2: [327, 286],
  dup: [32, 23],
  dup2: [33],
  dup3: [292, 24],
  // To wait.
  pipe: [22],
  pipe2: [293, 59],
  eventfd: [284],
  eventfd2: [290, 19],
  epoll_create: [213],
  epoll_create1: [291, 20],
  epoll_ctl: [233, 21],
  epoll_wait: [232],
  epoll_pwait2: [441, 441],
  poll: [7],
  ppoll: [271, 73],
  select: [23],
  pselect6: [270, 72],
  nanosleep: [35, 101],
  clock_nanosleep: [230, 115],
  clock_getres: [229, 114],
  gettimeofday: [96, 169],
  restart_syscall: [219, 128],
  // The pipe to the node is a socket.
  getsockname: [51, 204],
  getpeername: [52, 205],
  getsockopt: [55, 209],
  shutdown: [48, 210],
  // Threads, and the process itself.
  set_tid_address: [218, 96],
  set_robust_list: [273, 99],
  get_robust_list: [274, 100],
  rseq: [334, 293],
  arch_prctl: [158],
  gettid: [186, 178],
  getppid: [110, 173],
  getuid: [102, 174],
  geteuid: [107, 175],
  getgid: [104, 176],
  getegid: [108, 177],
  capget: [125, 90],
  getrusage: [98, 165],
  getrlimit: [97, 163],
  setrlimit: [160, 164],
  times: [100, 153],
  getcpu: [309, 168],
  sched_getparam: [143, 121],
  sched_getscheduler: [145, 120],
  sched_getaffinity: [204, 123],
  sched_get_priority_max: [146, 125],
  sched_get_priority_min: [147, 126],
  uname: [63, 160],
  sysinfo: [99, 179],
  getrandom: [318, 278],
  rt_sigaction: [13, 134],
  rt_sigprocmask: [14, 135],
  rt_sigreturn: [15, 139],
  rt_sigpending: [127, 136],
  rt_sigsuspend: [130, 133],
  rt_sigtimedwait: [128, 137],
  sigaltstack: [131, 132],
  exit: [60, 93],
  exit_group: [231, 94],
  // Node itself is executed behind the filter.
  execve: [59, 221],
};

const CLONE_THREAD = 0x1_0000;
/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET. */
const CLONE_NAMESPACES = 0x7e02_0000;

/** O_WRONLY, O_RDWR, O_CREAT and O_TRUNC. */
const OPEN_WRITES = 0o1103;

/** Each with an answer of "not permitted" where its condition does not hold. */
const CONDITIONAL: readonly (readonly [Numbers, Condition])[] = [
  // open and openat: to read.
  [[2], { argument: 1, mask: OPEN_WRITES, values: [0] }],
  [[257, 56], { argument: 2, mask: OPEN_WRITES, values: [0] }],
  // clone: a thread, and no process. What clone3 is to make no filter can see, and who does not find it uses clone.
  [[56, 220], { argument: 0, mask: CLONE_THREAD | CLONE_NAMESPACES, values: [CLONE_THREAD] }],
  // ioctl: TCGETS, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX.
  [[16, 29], { argument: 1, values: [0x5401, 0x541b, 0x5421, 0x5450, 0x5451] }],
  // fcntl: F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC; no signals to whom it names.
  [[72, 25], { argument: 1, values: [0, 1, 2, 3, 4, 1030] }],
  // prctl: PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, and PR_SET_VMA, by which V8 names its memory.
  [[157, 167], { argument: 0, values: [3, 15, 16, 0x5356_4d41] }],
  // prlimit64: its own.
  [[302, 261], { argument: 0, values: [0] }],
  // tgkill: a process that aborts ends itself by a signal.
  [[234, 131], { argument: 0, values: [OWN_PROCESS] }],
];

const ARCHITECTURES: Readonly<Partial<Record<NodeJS.Architecture, Architecture>>> = {
  x64: { audit: 0xc000_003e, column: 0 },
  arm64: { audit: 0xc000_00b7, column: 1 },
};

/** Operations of BPF, on 32-bit words. */
const LOAD = 0x20;
const AND = 0x54;
const JUMP_IF_EQUAL = 0x15;
const RETURN = 0x06;
export const INSTRUCTION_BYTES = 8;
/** Offsets in what the filter is shown of a call. */
const NUMBER_OFFSET = 0;
const ARCHITECTURE_OFFSET = 4;
const ARGUMENTS_OFFSET = 16;
const ALLOW = 0x7fff_0000;
const KILL_PROCESS = 0x8000_0000;
const NOT_PERMITTED = 0x0005_0000 | 1;
const NO_SUCH_CALL = 0x0005_0000 | 38;

type Instruction = readonly [operation: number, ifTrue: number, ifFalse: number, operand: number];

export interface SystemCallFilter {
  /** Instructions of INSTRUCTION_BYTES. */
  readonly program: Buffer;
  /** Where the number of the process is to be written, 32 bits. */
  readonly processOffsets: readonly number[];
}

/** Undefined where these calls have other numbers. */
export function systemCallFilter(arch: NodeJS.Architecture): SystemCallFilter | undefined {
  const architecture = ARCHITECTURES[arch];
  if (architecture === undefined || endianness() !== "LE") return undefined;
  const { audit, column } = architecture;
  const instructions: Instruction[] = [
    load(ARCHITECTURE_OFFSET),
    ...when(audit, []),
    answer(KILL_PROCESS),
    load(NUMBER_OFFSET),
  ];
  for (const numbers of Object.values(ALLOWED)) {
    const number = numbers[column];
    if (number !== undefined) instructions.push(...when(number, [answer(ALLOW)]));
  }
  for (const [numbers, condition] of CONDITIONAL) {
    const number = numbers[column];
    if (number !== undefined) instructions.push(...when(number, conditional(condition)));
  }
  instructions.push(answer(NO_SUCH_CALL));
  const program = Buffer.alloc(instructions.length * INSTRUCTION_BYTES);
  const processOffsets: number[] = [];
  for (const [index, [operation, ifTrue, ifFalse, operand]] of instructions.entries()) {
    const at = index * INSTRUCTION_BYTES;
    program.writeUInt16LE(operation, at);
    program.writeUInt8(ifTrue, at + 2);
    program.writeUInt8(ifFalse, at + 3);
    program.writeUInt32LE(operand, at + 4);
    if (operation === JUMP_IF_EQUAL && operand === OWN_PROCESS) processOffsets.push(at + 4);
  }
  return { program, processOffsets };
}

function load(offset: number): Instruction {
  return [LOAD, 0, 0, offset];
}

function answer(operand: number): Instruction {
  return [RETURN, 0, 0, operand];
}

/** Passes over what follows unless the word is this one; with nothing to follow, passes over one instruction if it is. */
function when(word: number, then: readonly Instruction[]): Instruction[] {
  if (then.length === 0) return [[JUMP_IF_EQUAL, 1, 0, word]];
  return [[JUMP_IF_EQUAL, 0, then.length, word], ...then];
}

function conditional({ argument, mask, values }: Condition): Instruction[] {
  return [
    load(ARGUMENTS_OFFSET + argument * 8),
    ...(mask === undefined ? [] : [[AND, 0, 0, mask] as const]),
    ...values.flatMap((value) => when(value, [answer(ALLOW)])),
    answer(NOT_PERMITTED),
  ];
}
