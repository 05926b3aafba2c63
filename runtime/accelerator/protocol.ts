/**
 * What a node and a GPU process say to each other, over one pipe. The node's word counts; a GPU process runs what strangers
 * wrote, behind a compiler and a driver that may have defects, so that the node checks all that it says.
 *
 *   OFFSET SIZE a frame, integers little-endian
 *   0      4    head       bytes of the message, JSON in UTF-8
 *   4      4    body       bytes that belong to it
 *   8      …    the message, then its body
 *
 * A call, whose pieces are those of its inputs that the process does not read itself, in their order:
 *
 *   node ── run, piece, piece … ──▶ process
 *        ◀── stage "compile", "upload", "kernel", "download" ── (as they begin; the first two where it is compiled)
 *        ◀── window, bytes … ──                     (its outputs, in their order)
 *        ◀── done | failed ──
 */
import {
  array,
  boolean,
  integer,
  literal,
  maxLength,
  maxValue,
  minValue,
  number,
  object,
  picklist,
  pipe,
  safeParse,
  string,
} from "valibot";
import type { GenericSchema } from "valibot";
import type { KernelTimes } from "../contracts/kernels.ts";
import {
  ADAPTERS_LISTED_MAX,
  ADAPTER_NAME_CHARACTERS_MAX,
  GPU_FRAME_BODY_BYTES_MAX,
  GPU_FRAME_HEAD_BYTES_MAX,
} from "../limits.ts";

/** In the process: of the pipe, of a second one for what cannot wait behind bytes, and of the window for outputs, if there is one. */
export const GPU_PIPE_DESCRIPTOR = 3;
export const GPU_CONTROL_DESCRIPTOR = 4;
export const GPU_WINDOW_DESCRIPTOR = 5;

/** What a process is started with, as JSON. */
export interface GpuProcessOptions {
  /** As `webgpu` calls them; "null" compiles, and computes nothing. */
  readonly backend: string;
  /** The adapter's name, or a part of it; undefined for the one that the system likes best. */
  readonly adapter?: string | undefined;
  /** Whether it names all adapters first, and is told which of them to open. */
  readonly lists?: boolean | undefined;
  /** Whether it may be one that a CPU imitates. */
  readonly isSoftwareAllowed: boolean;
  /** Whether it computes, or is there to compile only. */
  readonly computes: boolean;
  /** Of the GPU's memory. */
  readonly memoryBytes: number;
  /** Whether it has a window for outputs; whoever starts it says so. */
  readonly hasWindow?: boolean;
}

/** How a buffer is bound, from binding 1 on; the uniform buffer is binding 0 where there is one. */
export type BindingAccess = "read" | "write";

/** A module and how it is entered. `module` names all of this: whoever says the same means the same. */
export interface GpuModule {
  readonly module: string;
  readonly wgsl: string;
  readonly entryPoint: string;
  readonly hasUniform: boolean;
  readonly bindings: readonly BindingAccess[];
}

/** 32-bit integers that floats must have, none of which is beyond KERNEL_WHOLE_MAX; or floats that all GPUs have alike. */
export interface CheckedElements {
  /** Of the input. */
  readonly name: string;
  readonly type: "i32" | "u32" | "f32";
}

/** Where an input's bytes are, and under what name they may stay in the GPU's memory. */
export interface GpuInput {
  readonly length: number;
  /** Undefined: they follow as pieces. Otherwise the rows of a read plan (read-plan.ts) in the body of the message, so many of them. */
  readonly rows?: number;
  /** Files that the rows name by their place in this list. */
  readonly files?: readonly string[];
  readonly key?: string;
  /** Whether it should be in memory under that name, so that nothing says where it is. */
  readonly isResident?: boolean;
  /** What is looked at as its bytes come; undefined where they may be any. */
  readonly check?: CheckedElements | undefined;
}

export interface RunMessage extends GpuModule {
  readonly kind: "run";
  readonly call: number;
  /** Words of the uniform buffer, as u32. */
  readonly uniform: readonly number[];
  readonly workgroups: readonly [number, number, number];
  /** By binding, from 1 on: which of the inputs or outputs. */
  readonly buffers: readonly ({ readonly input: number } | { readonly output: number })[];
  readonly inputs: readonly GpuInput[];
  /** Bytes of each. */
  readonly outputs: readonly number[];
}

/** What is said between bytes. */
export type ControlMessage =
  /** Nothing of this call is wanted any more: it fails, unless it is done already. */
  | { readonly kind: "cancel"; readonly call: number }
  /** So much of the GPU's memory may be in use. */
  | { readonly kind: "budget"; readonly bytes: number }
  /** This slot of the window may be written to again. */
  | { readonly kind: "free"; readonly at: number };

export type NodeMessage =
  | RunMessage
  /** The answer to a list: this one is opened. */
  | { readonly kind: "open"; readonly adapter: string }
  /** Measures the adapter, and checks results. */
  | { readonly kind: "calibrate" }
  /** Checks results. */
  | { readonly kind: "verify" }
  /** Body: what follows of the bytes of the input that is being sent. */
  | { readonly kind: "piece"; readonly call: number }
  /** No more of the input's bytes come, since they cannot be read. */
  | { readonly kind: "broken"; readonly call: number }
  /** Compiles it and does nothing else. */
  | ({ readonly kind: "check"; readonly call: number } & GpuModule)
  /** Runs a kernel that took some time when the process began, and says how long it takes now. */
  | { readonly kind: "probe"; readonly call: number };

/** What a compiler refuses WGSL for; line and column from 1 on, 0 where it has no place. */
export interface CompilerNote {
  readonly line: number;
  readonly column: number;
  readonly text: string;
}

/** Said once, before anything else, where it was asked for. */
export interface AdaptersMessage {
  readonly kind: "adapters";
  /** As drivers call them, in the order in which they are found by a part of their names; those of one model have one name. */
  readonly names: readonly string[];
}

/** Said once, when it takes calls. */
export interface ReadyMessage {
  readonly kind: "ready";
  readonly adapter: {
    readonly vendor: string;
    readonly architecture: string;
    readonly device: string;
    readonly description: string;
    /** Whether a CPU imitates it. */
    readonly isSoftware: boolean;
    /** What compiles for it and drives it, beside what the adapter says of itself. */
    readonly runtime: string;
  };
  readonly limits: {
    readonly bindingBytes: number;
    readonly bufferBytes: number;
    readonly bindings: number;
    /** Of a dispatch along one of its axes. */
    readonly workgroups: number;
  };
  /** Of a probe that nobody disturbs. */
  readonly probeMs: number;
}

export interface CalibratedMessage {
  readonly kind: "calibrated";
  readonly uploadGBps: number;
  readonly downloadGBps: number;
  readonly launchMs: number;
  readonly gops: number;
  /** What came out wrong; empty where nothing did. */
  readonly wrong: string;
}

export interface VerifiedMessage {
  readonly kind: "verified";
  /** As CalibratedMessage has it. */
  readonly wrong: string;
}

/** With what its process knows of what the call took. */
export interface DoneMessage extends Omit<KernelTimes, "totalMs" | "waitMs"> {
  readonly kind: "done";
  readonly call: number;
  /** Inputs that are in the GPU's memory now, and were not. */
  readonly kept: readonly string[];
}

/**
 * "module": the compiler refuses it. "memory": the GPU has too little. "unread": the bytes of an input are not where they
 * should be. "elements": an input has one that it must not have. "cancelled": as it was asked.
 */
export type FailureKind = "module" | "memory" | "unread" | "elements" | "cancelled";

export interface FailedMessage {
  readonly kind: "failed";
  readonly call: number;
  readonly why: FailureKind;
  readonly reason: string;
  readonly notes: readonly CompilerNote[];
}

export type Stage = "compile" | "upload" | "kernel" | "download";

/** Why a process has no adapter to offer: it says so, and ends. No process says "unwanted": none of what it has was asked for. */
export interface AbsentMessage {
  readonly kind: "absent";
  readonly why: "package" | "adapter" | "software" | "device" | "unwanted";
  readonly reason: string;
}

export type ProcessMessage =
  | AdaptersMessage
  | ReadyMessage
  | CalibratedMessage
  | VerifiedMessage
  | DoneMessage
  | FailedMessage
  | AbsentMessage
  | { readonly kind: "stage"; readonly call: number; readonly stage: Stage }
  /** Body: what follows of a call's outputs. */
  | { readonly kind: "bytes"; readonly call: number }
  /** The same, of bytes that stand in a slot of the window. */
  | { readonly kind: "window"; readonly call: number; readonly at: number; readonly bytes: number }
  | { readonly kind: "checked"; readonly call: number; readonly notes: readonly CompilerNote[] }
  | { readonly kind: "probed"; readonly call: number; readonly probeMs: number }
  /** These are no longer in the GPU's memory. */
  | { readonly kind: "dropped"; readonly keys: readonly string[] }
  /** The device is gone, and the process about to be. */
  | { readonly kind: "lost"; readonly reason: string };

const whole = pipe(number(), integer(), minValue(0), maxValue(Number.MAX_SAFE_INTEGER));
const amount = pipe(number(), minValue(0), maxValue(Number.MAX_SAFE_INTEGER));
const text = pipe(string(), maxLength(4096));
const keys = pipe(array(pipe(string(), maxLength(128))), maxLength(256));
const names = pipe(
  array(pipe(string(), maxLength(ADAPTER_NAME_CHARACTERS_MAX))),
  maxLength(ADAPTERS_LISTED_MAX),
);
const notes = pipe(array(object({ line: whole, column: whole, text })), maxLength(64));

const SCHEMAS: { readonly [Kind in ProcessMessage["kind"]]: GenericSchema } = {
  adapters: object({ kind: literal("adapters"), names }),
  ready: object({
    kind: literal("ready"),
    adapter: object({
      vendor: text,
      architecture: text,
      device: text,
      description: text,
      isSoftware: boolean(),
      runtime: text,
    }),
    limits: object({ bindingBytes: whole, bufferBytes: whole, bindings: whole, workgroups: whole }),
    probeMs: amount,
  }),
  calibrated: object({
    kind: literal("calibrated"),
    uploadGBps: amount,
    downloadGBps: amount,
    launchMs: amount,
    gops: amount,
    wrong: text,
  }),
  verified: object({ kind: literal("verified"), wrong: text }),
  done: object({
    kind: literal("done"),
    call: whole,
    compileMs: amount,
    uploadMs: amount,
    kernelMs: amount,
    downloadMs: amount,
    uploadedBytes: whole,
    residentBytes: whole,
    kept: keys,
  }),
  failed: object({
    kind: literal("failed"),
    call: whole,
    why: picklist(["module", "memory", "unread", "elements", "cancelled"]),
    reason: text,
    notes,
  }),
  absent: object({
    kind: literal("absent"),
    why: picklist(["package", "adapter", "software", "device"]),
    reason: text,
  }),
  stage: object({
    kind: literal("stage"),
    call: whole,
    stage: picklist(["compile", "upload", "kernel", "download"]),
  }),
  bytes: object({ kind: literal("bytes"), call: whole }),
  window: object({ kind: literal("window"), call: whole, at: whole, bytes: whole }),
  checked: object({ kind: literal("checked"), call: whole, notes }),
  probed: object({ kind: literal("probed"), call: whole, probeMs: amount }),
  dropped: object({ kind: literal("dropped"), keys }),
  lost: object({ kind: literal("lost"), reason: text }),
};

/** Undefined for what no GPU process of ours says. */
export function parseProcessMessage(value: unknown): ProcessMessage | undefined {
  const { kind } = (typeof value === "object" && value !== null ? value : {}) as { readonly kind?: unknown };
  if (typeof kind !== "string" || !Object.hasOwn(SCHEMAS, kind)) return undefined;
  const { success, output } = safeParse(SCHEMAS[kind as ProcessMessage["kind"]], value);
  return success ? (output as ProcessMessage) : undefined;
}

export interface Frame {
  readonly message: unknown;
  readonly body: Uint8Array<ArrayBuffer>;
}

const HEADER_BYTES = 8;
const NOTHING = new Uint8Array(0);

/** What is written for a message and the bytes that belong to it, which are not copied. */
export function encodeFrame(message: object, body: Uint8Array = NOTHING): Uint8Array[] {
  const head = Buffer.from(JSON.stringify(message), "utf8");
  if (head.byteLength > GPU_FRAME_HEAD_BYTES_MAX || body.byteLength > GPU_FRAME_BODY_BYTES_MAX)
    throw new Error("a message to or of a GPU process is too long");
  const start = Buffer.alloc(HEADER_BYTES + head.byteLength);
  start.writeUInt32LE(head.byteLength, 0);
  start.writeUInt32LE(body.byteLength, 4);
  start.set(head, HEADER_BYTES);
  return body.byteLength === 0 ? [start] : [start, body];
}

/** The frames of a pipe, one after the other: nothing more is read while the last one is being dealt with. Throws for what is none. */
export async function* readFrames(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Frame, void> {
  const source = new PieceReader(pieces);
  const header = new Uint8Array(HEADER_BYTES);
  const view = new DataView(header.buffer);
  while (await source.fill(header)) {
    const [headBytes, bodyBytes] = [view.getUint32(0, true), view.getUint32(4, true)];
    if (headBytes === 0 || headBytes > GPU_FRAME_HEAD_BYTES_MAX || bodyBytes > GPU_FRAME_BODY_BYTES_MAX)
      throw new Error("it is no frame");
    const head = new Uint8Array(headBytes);
    const body = bodyBytes === 0 ? NOTHING : new Uint8Array(Buffer.allocUnsafeSlow(bodyBytes).buffer);
    if (!(await source.fill(head)) || !(await source.fill(body))) return;
    yield { message: JSON.parse(Buffer.from(head.buffer).toString("utf8")) as unknown, body };
  }
}

class PieceReader {
  readonly #pieces: AsyncIterator<Uint8Array>;
  #piece: Uint8Array = NOTHING;

  constructor(pieces: AsyncIterable<Uint8Array>) {
    this.#pieces = pieces[Symbol.asyncIterator]();
  }

  /** False where the pipe ends before. */
  async fill(target: Uint8Array): Promise<boolean> {
    let at = 0;
    while (at < target.byteLength) {
      if (this.#piece.byteLength === 0) {
        const next = await this.#pieces.next();
        if (next.done === true) return false;
        this.#piece = next.value;
      }
      const part = this.#piece.subarray(0, target.byteLength - at);
      target.set(part, at);
      at += part.byteLength;
      this.#piece = this.#piece.subarray(part.byteLength);
    }
    return true;
  }
}
