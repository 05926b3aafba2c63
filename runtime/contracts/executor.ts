/**
 * Whatever executes EXEC packets: executor processes on this machine, a machine behind a wire. The scheduler knows nothing
 * else and cannot tell them apart. A machine may have several, each for the kinds of program that it can run.
 */
import type { Ref } from "../../packets/digest.ts";
import type { PacketfsError } from "../../packets/errors.ts";
import type { AcceleratorInfo, Engine, KernelUse } from "./kernels.ts";

/**
 * What a program is made of, as its manifest says it: "js" is JavaScript; "kernel" is JavaScript with kernels whose results
 * depend on the engine that runs them, so that GPUs and CPUs run it by editions of their own. "code" is packet code, which has
 * no manifest.
 */
export type ProgramKind = "js" | "kernel" | "code";

/** By kind of program: the editions that a machine runs it by. A job runs on one of them. */
export type Editions = Readonly<Partial<Record<ProgramKind, readonly string[]>>>;

/** Packet code: the 32 bytes that a LOAD packet with INLINE carries. */
export interface InlineCode {
  readonly inline: Uint8Array;
  /** What shall compute what it maps, where that can be chosen: by default what is expected to be faster. */
  readonly engine?: Engine | undefined;
}

/**
 * By kind of program: packets with large inputs that are worked on at once, at least 1. A kind that is not here cannot be
 * loaded, and no packet of such a program is sent.
 */
export type Capacity = Readonly<Partial<Record<ProgramKind, number>>>;

/**
 * Whose program a lane runs: for a network's clients the id of their key, 32 hexadecimal digits. Nothing that could remember
 * what one tenant's packets did is ever given to another: no process, and no memory of a program.
 */
export type Tenant = string;

/** A kind of program of which an executor gets no packets any more, and why, for people. */
export interface BarInfo {
  readonly kind: string;
  readonly reason: string;
}

export interface Executor {
  /** Unique among the executors of a scheduler; a node's id or "local". */
  readonly id: string;
  /** For people. */
  readonly label: string;
  readonly capacity: Capacity;
  /**
   * What answers depend on beside the program and its input: executors of one edition give the same bytes. All packets of a
   * job run on one. At most 64 of A-Z, a-z, 0-9, ".", "_" and "-".
   */
  readonly edition: string;
  /** The GPU that computes kernels for it. One that has one, and runs programs of kind "kernel", computes all of theirs on it. */
  readonly accelerator?: AcceleratorInfo | undefined;
  /** Whether it left something that it was asked without a word lately: others get the packets, as long as there are any. */
  readonly isSuspect?: boolean;
  /**
   * Loads a program of a kind that it has capacity for, packet code or that whose manifest chunk is named, into a lane of its
   * own and says when it is ready. It is the program of this machine's owner unless a tenant is given.
   * Rejects with PFS_PROGRAM_INVALID, PFS_CHUNK_MISSING or PFS_NODE_LOST, or with the signal's reason. Once there, a lane
   * does not look at the signal any more: it lives until it is closed or lost.
   */
  load(
    program: Ref | InlineCode,
    listener: LaneListener,
    signal: AbortSignal,
    tenant?: Tenant,
  ): Promise<Lane>;
  /** One byte (0 or 1) per 32-byte ref: which chunks are there already. */
  has(refs: Uint8Array): Promise<Uint8Array>;
}

export interface Lane {
  /** CPU time that the frames took which have ended, in milliseconds, where that is known here. */
  readonly cpuMs?: number;
  /**
   * Executes a frame of EXEC packets (n × 64 bytes, n ≤ FRAME_PACKETS_MAX), whatever lane above 0 they say. They are believed:
   * who has them from outside checks them first (packets/exec-frame.ts). The frame must not change afterwards: it may travel
   * as it is.
   * Answers come to the listener, in any order, one RETURN or FAULT per packet, `at` as in the EXEC.
   * The caller bounds what is in flight: an executor may refuse more than LANE_PACKETS_MAX with a `lost`.
   * Once the lane is closed or lost, nothing happens.
   */
  exec(frame: Uint8Array): void;
  /**
   * Makes outputs outlive the lane: stores, durably and under `name` in the executor's own catalog, a stream of the
   * outputs that these RETURN packets (n × 64 bytes, made by this lane) stand for, in their order. The bytes stay where
   * they were made. Resolves with the stream's root.
   */
  keep(name: string, returns: Uint8Array): Promise<Ref>;
  /** Frees the lane; packets in flight are dropped without an answer, results that were not kept may be collected. */
  close(): Promise<void>;
}

export interface LaneListener {
  /**
   * RETURN and FAULT packets, n × 64 bytes; the buffer is the lane's again when this returns. `isOwn`: this process wrote
   * them, so that they need not be checked.
   */
  returned(frame: Uint8Array, isOwn?: boolean): void;
  /** Console output of the program, bounded by its limits. `at` is the packet's task index. */
  logged(at: number, text: string): void;
  /** Something a person watching the job wants to know (an executor process was killed and why). */
  noted(text: string): void;
  /** What calls of kernels took that packets made; told before the answers of those packets. */
  measured?(uses: readonly KernelUse[]): void;
  /** The lane is gone, and every packet in flight with it. Called at most once; nothing follows it. */
  lost(error: PacketfsError): void;
}
