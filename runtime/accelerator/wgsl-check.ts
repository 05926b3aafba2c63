/**
 * Compiles WGSL where there is no GPU: what is wrong with a kernel is known when it is handed in, with line and column, on every
 * machine that has the package. In a process of its own, since compilers have defects and take long.
 */
import { KernelError, KernelErrorCode } from "../errors.ts";
import type { Kernel } from "../program/kernel/kernel.ts";
import { wgslSourcePlace } from "../program/kernel/wgsl.ts";
import { GPU_COMPILE_CPU_MS, GPU_LIMIT_TIMES_MAX, WGSL_CHECKS_MAX, WGSL_CHECK_IDLE_MS } from "../limits.ts";
import { ProcessClock } from "../process-clock.ts";
import { GpuProcess } from "./gpu-process.ts";
import { OwnTimeWatch } from "./own-time.ts";
import { moduleOf } from "./prepared-call.ts";
import type { CompilerNote, GpuModule } from "./protocol.ts";

export type { CompilerNote } from "./protocol.ts";

/** What a compiler says: nothing, where it takes the module as its layout has it. */
export type WgslCheck =
  | { readonly isChecked: true; readonly notes: readonly CompilerNote[] }
  /** Nothing here compiles it, for a reason that a person may mend. */
  | { readonly isChecked: false; readonly reason: string };

interface Checker {
  readonly process: GpuProcess;
  readonly waiting: Map<number, (check: WgslCheck) => void>;
}

const OPTIONS = {
  backend: "null",
  isSoftwareAllowed: true,
  computes: false,
  memoryBytes: 0,
};
const SLOW: CompilerNote = { line: 0, column: 0, text: `it is not compiled within ${GPU_COMPILE_CPU_MS} ms` };

/** By module, those that were checked last at the end. */
const checked = new Map<string, Promise<WgslCheck>>();
let checker: Promise<Checker | string> | undefined;
let checks = 0;
let idle: NodeJS.Timeout | undefined;

/**
 * Rejects with PFS_KERNEL_INVALID {kernel, reason}, and line and column of what its author wrote, where a compiler refuses the
 * kernel. Resolves with whether there is a compiler: without one, it is whoever has a GPU that finds out.
 */
export async function checkKernel(kernel: Kernel): Promise<boolean> {
  const check = await checkWgsl(kernel);
  if (!check.isChecked) return false;
  const [note] = check.notes;
  if (note === undefined) return true;
  const { name } = kernel;
  // Behind its first line stand all operators that there are.
  const [reason = ""] = note.text.split("\n", 1);
  const place = authorsPlace(kernel, note);
  const where = place === undefined ? "" : ` (line ${place.line}, column ${place.column})`;
  throw new KernelError(KernelErrorCode.invalid, `the kernel ${name} does not compile: ${reason}${where}`, {
    kernel: name,
    reason,
    ...place,
  });
}

/** Of kernels that were written in WGSL; the modules of others are nobody's to look at. */
function authorsPlace(
  { workgroup, ...kernel }: Kernel,
  { line, column }: CompilerNote,
): ReturnType<typeof wgslSourcePlace> {
  if (kernel.kind !== "wgsl" || workgroup === undefined || line === 0) return undefined;
  return wgslSourcePlace({ ...kernel, workgroup }, line, column);
}

/** Never rejects. The same module is compiled once. */
export function checkWgsl(kernel: Kernel): Promise<WgslCheck> {
  const module = moduleOf(kernel);
  const known = checked.get(module.module);
  if (known !== undefined) return known;
  const check = compile(module);
  checked.set(module.module, check);
  for (const oldest of checked.keys()) {
    if (checked.size <= WGSL_CHECKS_MAX) break;
    checked.delete(oldest);
  }
  void check.then(({ isChecked }) => {
    // It may be another time.
    if (!isChecked) checked.delete(module.module);
  });
  return check;
}

/** Ends the process that compiles, if there is one. */
export async function closeWgslChecks(): Promise<void> {
  clearTimeout(idle);
  const open = await checker;
  checker = undefined;
  if (typeof open === "object") open.process.kill();
}

async function compile(module: GpuModule): Promise<WgslCheck> {
  clearTimeout(idle);
  const open = await (checker ??= start());
  if (typeof open === "string") {
    checker = undefined;
    return { isChecked: false, reason: open };
  }
  const { process, waiting } = open;
  const call = checks++;
  const { promise, resolve } = Promise.withResolvers<WgslCheck>();
  if (waiting.size === 0) process.ref();
  waiting.set(call, resolve);
  const clock = ProcessClock.of(process.pid);
  let before = clock?.read() ?? 0;
  const watch = new OwnTimeWatch({
    limitMs: GPU_COMPILE_CPU_MS,
    ceilingMs: GPU_COMPILE_CPU_MS * GPU_LIMIT_TIMES_MAX,
    share: (passed) => {
      const now = clock?.read() ?? before + passed;
      const used = now - before;
      before = now;
      return used;
    },
    over: () => {
      resolve({ isChecked: true, notes: [SLOW] });
      process.kill();
    },
  });
  void process.send([{ message: { kind: "check", call, ...module } }]);
  const check = await promise;
  watch.close();
  clock?.close();
  waiting.delete(call);
  if (waiting.size > 0) return check;
  process.unref();
  idle = setTimeout(() => void closeWgslChecks(), WGSL_CHECK_IDLE_MS).unref();
  return check;
}

async function start(): Promise<Checker | string> {
  const started = await GpuProcess.start(OPTIONS);
  if ("kind" in started) return `the package webgpu does not load here: ${started.reason}`;
  const { process } = started;
  const waiting = new Map<number, (check: WgslCheck) => void>();
  process.unref();
  process.onMessage = (message) => {
    if (message.kind === "checked") waiting.get(message.call)?.({ isChecked: true, notes: message.notes });
  };
  void process.ended.then(({ reason, isCrash }) => {
    checker = undefined;
    const text = `the compiler ended over it: ${reason}`;
    for (const resolve of waiting.values()) {
      resolve(
        isCrash ? { isChecked: true, notes: [{ line: 0, column: 0, text }] } : { isChecked: false, reason },
      );
    }
  });
  return { process, waiting };
}
