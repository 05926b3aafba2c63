/** The filter of system calls, run as the kernel would run it, for processors that this machine does not have too. */
import { describe, expect, it } from "vitest";
import { INSTRUCTION_BYTES, systemCallFilter } from "../../../runtime/sandbox/process/system-calls.ts";

const ALLOW = 0x7fff_0000;
const NOT_PERMITTED = 0x0005_0001;
const NO_SUCH_CALL = 0x0005_0026;
const KILL_PROCESS = 0x8000_0000;
const PROCESS = 4711;

/** What a BPF program of seccomp answers to a call. */
function answer(program: Buffer, architecture: number, number: number, args: readonly number[]): number {
  const data = Buffer.alloc(64);
  data.writeUInt32LE(number, 0);
  data.writeUInt32LE(architecture, 4);
  for (const [index, value] of args.entries()) data.writeBigUInt64LE(BigInt(value), 16 + index * 8);
  let word = 0;
  for (let at = 0; at < program.length; at += INSTRUCTION_BYTES) {
    const operand = program.readUInt32LE(at + 4);
    const operation = program.readUInt16LE(at);
    if (operation === 0x20) word = data.readUInt32LE(operand);
    else if (operation === 0x54) word = (word & operand) >>> 0;
    else if (operation === 0x15) at += INSTRUCTION_BYTES * program[word === operand ? at + 2 : at + 3]!;
    else if (operation === 0x06) return operand;
    else throw new Error(`no operation ${operation}`);
  }
  throw new Error("it has no end");
}

const WORKING_DIRECTORY = 0xffff_ff9c;
const THREAD = 0x3d_0f00;
const NEW_USER = 0x1000_0000;

describe.each([
  {
    arch: "x64",
    audit: 0xc000_003e,
    other: 0xc000_00b7,
    calls: {
      openat: 257,
      clone: 56,
      tgkill: 234,
      prlimit: 302,
      ioctl: 16,
      fcntl: 72,
      prctl: 157,
      read: 0,
      futex: 202,
      mmap: 9,
      execve: 59,
      exit: 231,
    },
    // socket, fork, vfork, kill, ptrace, unshare, setns, mount, keyctl, seccomp, bpf, unlink, memfd_create, io_uring_setup, clone3.
    absent: [41, 57, 58, 62, 101, 272, 308, 165, 250, 317, 321, 87, 319, 425, 435],
  },
  {
    arch: "arm64",
    audit: 0xc000_00b7,
    other: 0xc000_003e,
    calls: {
      openat: 56,
      clone: 220,
      tgkill: 131,
      prlimit: 261,
      ioctl: 29,
      fcntl: 25,
      prctl: 167,
      read: 63,
      futex: 98,
      mmap: 222,
      execve: 221,
      exit: 94,
    },
    // socket, kill, ptrace, unshare, setns, mount, keyctl, seccomp, bpf, unlinkat, memfd_create, io_uring_setup, clone3.
    absent: [198, 129, 117, 97, 268, 40, 219, 277, 280, 35, 279, 425, 435],
  },
] as const)("the filter of $arch", ({ arch, audit, other, calls, absent }) => {
  const { program, processOffsets } = systemCallFilter(arch)!;
  for (const at of processOffsets) program.writeUInt32LE(PROCESS, at);
  const asked = (number: number, ...args: number[]): number => answer(program, audit, number, args);

  it("lets an executor do its work", () => {
    for (const number of [calls.read, calls.futex, calls.mmap, calls.execve, calls.exit])
      expect(asked(number)).toBe(ALLOW);
    const closesOnExecution = 0o2_000_000;
    expect(asked(calls.openat, WORKING_DIRECTORY, 1, closesOnExecution)).toBe(ALLOW);
    expect(asked(calls.clone, THREAD)).toBe(ALLOW);
    expect(asked(calls.tgkill, PROCESS, PROCESS + 1, 6)).toBe(ALLOW);
    expect(asked(calls.prlimit, 0, 7)).toBe(ALLOW);
    expect(asked(calls.fcntl, 3, 2, 1)).toBe(ALLOW);
    expect(asked(calls.ioctl, 3, 0x5421)).toBe(ALLOW);
  });

  it("permits nothing that reaches beyond it", () => {
    for (const flags of [0o1, 0o2, 0o100, 0o1001])
      expect(asked(calls.openat, WORKING_DIRECTORY, 1, flags)).toBe(NOT_PERMITTED);
    for (const flags of [17, NEW_USER | 17, NEW_USER | THREAD])
      expect(asked(calls.clone, flags)).toBe(NOT_PERMITTED);
    expect(asked(calls.tgkill, PROCESS + 1, PROCESS + 1, 9)).toBe(NOT_PERMITTED);
    expect(asked(calls.prlimit, PROCESS + 1, 7)).toBe(NOT_PERMITTED);
    // F_SETOWN, by which a signal goes to another; TIOCSTI, which types at a terminal; PR_SET_SECCOMP.
    expect(asked(calls.fcntl, 3, 8, 1)).toBe(NOT_PERMITTED);
    expect(asked(calls.ioctl, 0, 0x5412)).toBe(NOT_PERMITTED);
    expect(asked(calls.prctl, 22, 2)).toBe(NOT_PERMITTED);
  });

  it("knows no other calls, and no other architecture's", () => {
    for (const number of absent) expect(asked(number), String(number)).toBe(NO_SUCH_CALL);
    // Those of x32 have a bit of their own.
    expect(asked(0x4000_0000 + calls.read)).toBe(NO_SUCH_CALL);
    expect(answer(program, other, calls.read, [])).toBe(KILL_PROCESS);
  });
});

it("there is none for processors whose calls are not known", () => {
  expect(systemCallFilter("s390x")).toBeUndefined();
});
