/** A kernel, calls of it, and a GPU that computes nothing, for tests of what stands before GPUs. */
import type {
  Accelerator,
  AcceleratorInfo,
  KernelAnswer,
  KernelCall,
  KernelTimes,
} from "../../../runtime/contracts/kernels.ts";
import { kernelSpec, wgslKernel } from "../../../runtime/program/kernel/declaration.ts";
import type { Kernel } from "../../../runtime/program/kernel/kernel.ts";

export function kernel(fields: Partial<Kernel> = {}): Kernel {
  return {
    name: "double",
    kind: "wgsl",
    inputs: [{ name: "v", type: "f32", shape: ["n"] }],
    outputs: [{ name: "w", type: "f32", shape: ["n"] }],
    source: "",
    maxTrip: {},
    result: { relL2: 1e-6, abs: 0 },
    hasCpu: true,
    operations: "n",
    limits: { gpuMs: 1000, gpuBytes: 1 << 20 },
    gpu: 1,
    wgsl: "",
    layout: {
      uniform: [],
      bindings: [{ input: 0 }, { output: 0 }],
      entryPoint: "main",
      workgroups: ["n", "1", "1"],
    },
    ...fields,
  };
}

export function call(fields: Partial<Kernel> = {}): KernelCall {
  return { kernel: kernel(fields), dimensions: { n: 1 }, inputs: [{ bytes: new Uint8Array(4) }] };
}

/** A call of a kernel whose results are the same everywhere, over so many float32. */
export function exactCall(elements: number, fields: Partial<Kernel> = {}): KernelCall {
  return {
    kernel: kernel({ result: "exact", ...fields }),
    dimensions: { n: elements },
    inputs: [{ bytes: new Uint8Array(elements * 4) }],
  };
}

export const INFO: AcceleratorInfo = {
  label: "a GPU of tests",
  engineClass: "vendor-0123456789ab",
  isSoftware: true,
  memoryBytes: 1 << 30,
  calibration: { uploadGBps: 1, downloadGBps: 1, launchMs: 1, gops: 1 },
};

const TIMES: KernelTimes = {
  totalMs: 3,
  waitMs: 1,
  compileMs: 0,
  uploadMs: 0,
  kernelMs: 2,
  downloadMs: 0,
  uploadedBytes: 4,
  residentBytes: 0,
};

/** Answers when it is told to. */
export class HeldAccelerator implements Accelerator {
  readonly info: AcceleratorInfo;
  readonly gone: Promise<string>;
  /** Has it run no call any more. */
  readonly go: (reason: string) => void;
  /** Of answers to come. */
  times: KernelTimes = TIMES;
  /** Calls that run now, in the order in which they came. */
  readonly running: { readonly call: KernelCall; answer(): void; fail(error: unknown): void }[] = [];
  isClosed = false;

  constructor(info: AcceleratorInfo = INFO) {
    this.info = info;
    const { promise, resolve } = Promise.withResolvers<string>();
    this.gone = promise;
    this.go = resolve;
  }

  run(asked: KernelCall): Promise<KernelAnswer> {
    const { promise, resolve, reject } = Promise.withResolvers<KernelAnswer>();
    const running = {
      call: asked,
      answer: () => over(() => resolve({ times: { ...this.times, uploadedBytes: bytesOf(asked) } })),
      fail: (error: unknown) => over(() => reject(error)),
    };
    const over = (settle: () => void): void => {
      this.running.splice(this.running.indexOf(running), 1);
      settle();
    };
    this.running.push(running);
    return promise;
  }

  resident(): number {
    return 0;
  }

  isBarred(): boolean {
    return false;
  }

  async close(): Promise<void> {
    this.isClosed = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function bytesOf({ inputs }: KernelCall): number {
  return inputs.reduce((sum, input) => sum + ("bytes" in input ? input.bytes.byteLength : input.length), 0);
}

/** One that manifests take, whose results depend on the engine and which does 1,000 operations an element. */
export const FLOAT_KERNEL: Kernel = wgslKernel(
  kernelSpec({
    name: "double",
    kind: "wgsl",
    inputs: [{ name: "v", type: "f32", shape: ["n"] }],
    outputs: [{ name: "w", type: "f32", shape: ["n"] }],
    source: "fn main(@builtin(global_invocation_id) id: vec3u) { w[id.x] = 2 * v[id.x]; }",
    result: { relL2: 1e-6, abs: 0 },
    hasCpu: true,
    workgroup: { size: [1], count: ["n"] },
    operations: "n * 1000",
  }),
);
