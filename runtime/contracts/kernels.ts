/** Calls of kernels: what whoever runs a program asks of a GPU, and what is measured of it. */
import type { Ref } from "../../packets/digest.ts";
import type { Kernel } from "../program/kernel/kernel.ts";

/** Where the bytes of an input are. */
export type KernelInput =
  | { readonly bytes: Uint8Array }
  /** A range of a stream, which the accelerator reads itself, verified, and may keep in the GPU's memory. */
  | { readonly root: Ref; readonly from: number; readonly length: number };

/** Where outputs go, back to back, each at a multiple of four bytes: a file that the accelerator may open, and a place in it. */
export interface KernelOutput {
  readonly path: string;
  readonly offset: number;
  readonly length: number;
}

export interface KernelCall {
  readonly kernel: Kernel;
  /** By name, all of them bound. */
  readonly dimensions: Readonly<Record<string, number>>;
  /** As many as the kernel has, in their order; of a scalar its 4 bytes. */
  readonly inputs: readonly KernelInput[];
  /** What shall compute it, where whoever started the job says so. */
  readonly engine?: Engine | undefined;
  /** Undefined gives the outputs' bytes to the caller. */
  readonly output?: KernelOutput;
}

/** What a call took, in milliseconds of wall time but for `kernelMs`, which the GPU measured, where it can. */
export interface KernelTimes {
  /** From when it was asked to when its outputs were there. */
  readonly totalMs: number;
  /** Of it, waiting for other calls. */
  readonly waitMs: number;
  /** Of it, waiting for the GPU's code of the kernel, which is made once and serves all calls. */
  readonly compileMs: number;
  readonly uploadMs: number;
  readonly kernelMs: number;
  readonly downloadMs: number;
  readonly uploadedBytes: number;
  /** Bytes of inputs that were in the GPU's memory already. */
  readonly residentBytes: number;
}

export interface KernelAnswer {
  readonly times: KernelTimes;
  /** Where the call named no place for them. */
  readonly outputs?: Uint8Array;
}

/** What was measured when an accelerator began, its results checked. */
export interface Calibration {
  /** GB/s to the GPU and back. */
  readonly uploadGBps: number;
  readonly downloadGBps: number;
  /** From a call to its end, of a kernel that does nothing. */
  readonly launchMs: number;
  /** Thousand million multiply-adds a second, counted as two each, of a plain kernel. */
  readonly gops: number;
}

export interface AcceleratorInfo {
  /** For people: "NVIDIA H200". */
  readonly label: string;
  /**
   * What float results depend on: vendor, device, driver and what compiles for it, digested. At most 27 of a-z, 0-9 and "-".
   * Accelerators of one class give the same bytes.
   */
  readonly engineClass: string;
  readonly isSoftware: boolean;
  /** What is used of its memory at most, in bytes. */
  readonly memoryBytes: number;
  readonly calibration: Calibration;
}

/** One GPU. */
export interface Accelerator extends AsyncDisposable {
  readonly info: AcceleratorInfo;
  /**
   * Runs a kernel. Rejects with PFS_KERNEL_DEADLINE (it took more of the GPU's own time than its limit, and its process was
   * killed), PFS_KERNEL_BARRED, PFS_KERNEL_OVER_LIMIT (memory), PFS_KERNEL_INVALID (layout or WGSL), PFS_ACCELERATOR_LOST (its
   * process ended for another reason, or did not answer for very long: another try may do), PFS_CHUNK_MISSING and what else
   * reading streams rejects with, or the signal's reason.
   */
  run(call: KernelCall, signal: AbortSignal): Promise<KernelAnswer>;
  /** Bytes of this range that a call over it would not have to send now, since they are in the GPU's memory. */
  resident(range: { readonly root: Ref; readonly from: number; readonly length: number }): number;
  /** Whether the kernel gets no calls here any more, since it was killed too often for its own time. */
  isBarred(kernel: Kernel): boolean;
  /** Resolves with the reason, for people, when it will run no call any more, whoever asks. Never rejects. */
  readonly gone: Promise<string>;
  close(): Promise<void>;
}

/** A GPU that is not used, or what all of them lack. */
export interface UnusedAccelerator {
  /** For people: "llvmpipe", or "GPU" where none was found. */
  readonly label: string;
  /** One sentence; where a package would help, it names it. */
  readonly reason: string;
}

/** What was found when a machine looked for GPUs. */
export interface FoundAccelerators {
  /** Those that are used, to be closed by whoever looked. */
  readonly accelerators: readonly Accelerator[];
  readonly unused: readonly UnusedAccelerator[];
}

/** Which engine ran a call. */
export type Engine = "gpu" | "cpu";

/**
 * A call that an estimate packet found that a program would make: what is known of it before anything is computed. The packet
 * yields the JSON text of an array of them.
 */
export interface KernelEstimate {
  /** Index among the kernels of the program. */
  readonly kernel: number;
  readonly dimensions: Readonly<Record<string, number>>;
  /** Whole numbers among its inputs, by their names; those below 0 are 0. */
  readonly scalars: Readonly<Record<string, number>>;
  /** Where each input is: with the call, in the range that the packet reads, or in a file that all packets of the job have. */
  readonly inputs: readonly ("call" | "range" | "file")[];
}

/** Calls of one kernel by one engine, of about one size, that packets of a lane made. */
export interface KernelUse {
  /** Index among the kernels of the program. */
  readonly kernel: number;
  readonly engine: Engine;
  /** The accelerator's class, or "cpu". */
  readonly engineClass: string;
  /** Size of the calls: the power of two at or below operations + bytes. */
  readonly bucket: number;
  readonly calls: number;
  /** Of all of them together: on a GPU from asking to the outputs, `waitMs` and `compileMs` left out; on a CPU of its time. */
  readonly milliseconds: number;
  /** The most that one of them waited besides for the GPU's code of the kernel; absent where that was there. */
  readonly compileMs?: number | undefined;
  /** What was expected of all of them together, where somebody knew. */
  readonly predictedMs?: number | undefined;
  /** Why this engine, for people. */
  readonly reason: string;
}

/** Calls of one kernel by one engine, of a whole job, as people are told of them. */
export interface KernelReport {
  /** The kernel's name. */
  readonly kernel: string;
  readonly engine: Engine;
  /** The accelerator's class, or "cpu". */
  readonly engineClass: string;
  /** Of a GPU, what people call it ("NVIDIA H200"), where that is known. */
  readonly label?: string | undefined;
  readonly calls: number;
  /** Of all of them together, as KernelUse has it. */
  readonly measuredMs: number;
  /** Left out where nobody knew what to expect. */
  readonly predictedMs?: number | undefined;
  readonly reason: string;
}

/** Who computes a call, and why. */
export interface EngineDecision {
  /** What a GPU answered. Without, the program shall compute it itself, and says by `computed` what that took. */
  readonly answer?: KernelAnswer;
  /** The accelerator's class, or "cpu". */
  readonly engineClass: string;
  /** What was expected of it, where somebody knew. */
  readonly predictedMs?: number | undefined;
  /** For people. */
  readonly reason: string;
}

/**
 * Decides, for a lane's calls, who computes them, and has it done. Executors are given one; without any, programs compute
 * all kernels themselves.
 */
export interface KernelEngine {
  /**
   * Rejects with PFS_ENGINE_LOST where the call is to be a GPU's and no GPU runs it, with what reading its inputs rejects
   * with, or with the signal's reason.
   */
  run(call: KernelCall, signal: AbortSignal): Promise<EngineDecision>;
  computed(call: KernelCall, cpuMs: number): void;
  /**
   * Whether a GPU may compute calls of these now; where it does not say, it may. Where none may, what a program's kernels compute
   * over comes along with its packets, which is read while others compute.
   */
  mayUseGpu?(kernels: readonly Kernel[]): boolean;
}
