/**
 * The metadata of every message above the handshake, by message type: what stands in frame 1, as MessagePack. Bytes that
 * are many (refs, packets, chunks) stand in the frames behind it. Nothing that a peer sent is used before it went
 * through one of these.
 */
import * as v from "valibot";
import { CODECS } from "../packets/codec.ts";
import type { Codec } from "../packets/codec.ts";
import { LANES_MAX } from "../packets/limits.ts";
import { laneAt, packetCount } from "../packets/packet.ts";
import type { NameRecord } from "../runtime/contracts/catalog.ts";
import type { BarInfo, Editions } from "../runtime/contracts/executor.ts";
import type { AcceleratorInfo, UnusedAccelerator } from "../runtime/contracts/kernels.ts";
import type { JobEvent } from "../runtime/contracts/events.ts";
import type { LaneInfo, LaneUse, LanesInfo } from "../runtime/contracts/lanes.ts";
import type { JobInfo, JobOutcome } from "../runtime/contracts/jobs.ts";
import type { Engine, KernelUse } from "../runtime/contracts/kernels.ts";
import { PROGRAM_FILES_MAX } from "../runtime/limits.ts";
import { engineSchema, kernelReportsSchema, kernelUsesSchema } from "../runtime/program/kernel/reports.ts";
import { invalidFileName } from "../runtime/program/manifest.ts";
import type { GcResult } from "../runtime/contracts/maintenance.ts";
import type { StoreReport } from "../runtime/contracts/maintenance.ts";
import { acceleratorInfos, unusedAccelerators } from "./accelerator-info.ts";
import { Grant } from "./grants/grant.ts";
import type { GrantedPackets } from "./grants/grants.ts";
import {
  ADDRESS_CHARACTERS_MAX,
  GRANTS_PER_ANSWER_MAX,
  LANES_LISTED_MAX,
  LIST_ENTRIES_MAX,
  LOG_CHARACTERS_MAX,
  JOB_FILES_MAX,
  KERNEL_USE_CHARACTERS,
  NODES_WAIT_MS_MAX,
} from "./limits.ts";
import type { WireMessage } from "./wire/link.ts";
import { count, file, id, label, milliseconds, name, ref } from "./message-fields.ts";
import { readMeta } from "./wire/session/meta.ts";

const codec: v.GenericSchema<unknown, Codec> = v.picklist(CODECS);

/** WANT: chunks = refs. Which are there? With `put`, those that are stay until the put ends. */
export interface WantMeta {
  readonly put?: string | undefined;
  readonly here?: boolean | undefined;
}
export const WantMeta: v.GenericSchema<unknown, WantMeta> = v.object({
  put: v.optional(id),
  here: v.optional(v.boolean()),
});

/** FILE_REQUEST: chunks = refs. `here` forbids the node to ask others for what it lacks. */
/** FILE_REQUEST: chunks = refs. With `cost` they are a root and bases, and nothing of them is asked for but what bringing it would cost. */
export const FileRequestMeta: v.GenericSchema<unknown, { here: boolean; cost?: boolean | undefined }> =
  v.object({ here: v.boolean(), cost: v.optional(v.boolean()) });

/** What a peer says among its features that tells costs. */
export const COST_FEATURE = "cost-1";

/** FILE_COMPLETE: what bringing a root would cost, as far as a sample of its parts tells. */
export interface FileCostMeta {
  /** Plain bytes that are lacking, and what they would be on the wire. */
  readonly plainBytes: number;
  readonly wireBytes: number;
  /** Whether that was found out of all parts. */
  readonly isExact: boolean;
}
export const FileCostMeta: v.GenericSchema<unknown, FileCostMeta> = v.object({
  plainBytes: count,
  wireBytes: count,
  isExact: v.boolean(),
});

/**
 * FILE_DATA: packets = COPY, chunks = body. `missing` are indexes of refs that cannot be had, `damaged` those of them whose
 * bytes are there and wrong; others may be asked again.
 */
export const FileDataMeta: v.GenericSchema<unknown, { codec: Codec; missing: number[]; damaged: number[] }> =
  v.object({
    codec,
    missing: v.array(count),
    damaged: v.optional(v.array(count), []),
  });

/** STORE: packets = COPY, chunks = body. */
export const StoreMeta: v.GenericSchema<unknown, { put: string; codec: Codec }> = v.object({
  put: id,
  codec,
});

/** STORED: what was new. */
export interface StoredMeta {
  readonly newChunks: number;
  readonly newBytes: number;
  readonly storedBytes: number;
}
export const StoredMeta: v.GenericSchema<unknown, StoredMeta> = v.object({
  newChunks: count,
  newBytes: count,
  storedBytes: count,
});

const rootDigits = v.pipe(v.string(), v.regex(/^[0-9a-f]{0,64}$/));
const atMostListed = v.pipe(count, v.maxValue(LIST_ENTRIES_MAX));

/** What a peer says among its features to which a name may bring the chunks of its file along. */
export const WHOLE_PUT_FEATURE = "whole-put-1";

/** NAME: one question about the catalog or one change of it. */
export type NameMeta =
  /** With `codec`, chunks of the file come along: packets = COPY, chunks = body. */
  | {
      op: "set";
      name: string;
      root: Uint8Array;
      length: number;
      put?: string | undefined;
      expected?: number | undefined;
      codec?: Codec | undefined;
    }
  /** Chunks of a file that needs no more than `along` bytes of them may come along: packets = COPY, chunks = body. */
  | { op: "resolve"; name: string; along?: number | undefined }
  | { op: "history"; name: string }
  | { op: "find-roots"; digits: string; limit: number }
  | { op: "list"; prefix: string; after: string }
  | { op: "remove"; name: string; expected?: number | undefined }
  | { op: "flush"; put: string }
  | { op: "end"; put: string };
export const NameMeta: v.GenericSchema<unknown, NameMeta> = v.variant("op", [
  v.object({
    op: v.literal("set"),
    name,
    root: ref,
    length: count,
    put: v.optional(id),
    expected: v.optional(count),
    codec: v.optional(codec),
  }),
  v.object({ op: v.literal("resolve"), name, along: v.optional(count) }),
  v.object({ op: v.literal("history"), name }),
  v.object({ op: v.literal("find-roots"), digits: rootDigits, limit: atMostListed }),
  v.object({ op: v.literal("list"), prefix: name, after: name }),
  v.object({ op: v.literal("remove"), name, expected: v.optional(count) }),
  v.object({ op: v.literal("flush"), put: id }),
  v.object({ op: v.literal("end"), put: id }),
]);

const nameRecord: v.GenericSchema<unknown, NameRecord> = v.object({
  name,
  root: ref,
  length: count,
  version: count,
  storedAt: milliseconds,
});
/**
 * The answer to NAME: the records asked for, bound or removed; a list has more when `more` is true. `codec` is that of the body of
 * chunks which came along, `stored` what was new of those that were brought along.
 */
export const NamesMeta: v.GenericSchema<unknown, NamesMeta> = v.object({
  records: v.pipe(v.array(nameRecord), v.maxLength(LIST_ENTRIES_MAX)),
  more: v.boolean(),
  codec: v.optional(codec),
  stored: v.optional(StoredMeta),
});
export interface NamesMeta {
  readonly records: NameRecord[];
  readonly more: boolean;
  readonly codec?: Codec | undefined;
  readonly stored?: StoredMeta | undefined;
}

/**
 * LOAD: packets = one LOAD packet, its lane chosen by the sender; `executor` is one of those that the node offers, `tenant` the
 * id of the key whose program it is, when that is not the sender's own. Whoever is not the node's hub has its grant for it.
 */
export interface LoadMeta {
  readonly executor: string;
  readonly tenant?: string | undefined;
  readonly grant?: Grant | undefined;
  /** Of packet code: what shall compute it, if it is not to be chosen. */
  readonly engine?: Engine | undefined;
}
export const LoadMeta: v.GenericSchema<unknown, LoadMeta> = v.object({
  executor: id,
  tenant: v.optional(v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/))),
  grant: v.optional(Grant),
  engine: v.optional(engineSchema),
});

/** GRANT, from a client: its lane goes on under this grant. */
export interface RenewMeta {
  readonly op: "renew";
  readonly lane: number;
  readonly grant: Grant;
}
export const RenewMeta: v.GenericSchema<unknown, RenewMeta> = v.object({
  op: v.literal("renew"),
  lane: count,
  grant: Grant,
});
/** GRANT, a notification of the hub: all grants are withdrawn that it gave for what it calls so. */
export interface WithdrawMeta {
  readonly op: "withdraw";
  readonly job: string;
}
export const WithdrawMeta: v.GenericSchema<unknown, WithdrawMeta> = v.object({
  op: v.literal("withdraw"),
  job: id,
});

/** KEEP: packets = RETURN packets. */
export const KeepMeta: v.GenericSchema<unknown, { lane: number; name: string }> = v.object({
  lane: count,
  name,
});
export const KeptMeta: v.GenericSchema<unknown, { root: Uint8Array }> = v.object({ root: ref });

/** LOG: what a lane has to say beside its packets. */
export type LaneNews =
  | { kind: "log"; lane: number; at: number; text: string }
  | { kind: "note"; lane: number; text: string }
  | { kind: "measured"; lane: number; uses: KernelUse[] }
  | { kind: "lost"; lane: number; error: unknown };
const text = v.pipe(v.string(), v.maxLength(LOG_CHARACTERS_MAX));
export const LaneNews: v.GenericSchema<unknown, LaneNews> = v.variant("kind", [
  v.object({ kind: v.literal("log"), lane: count, at: count, text }),
  v.object({ kind: v.literal("note"), lane: count, text }),
  v.object({
    kind: v.literal("measured"),
    lane: count,
    uses: kernelUsesSchema,
  }),
  v.object({ kind: v.literal("lost"), lane: count, error: v.unknown() }),
]);

/** What news costs of what a node may say, in characters. */
export function newsCharacters(news: Exclude<LaneNews, { readonly kind: "lost" }>): number {
  if (news.kind !== "measured") return news.text.length;
  return news.uses.reduce((sum, { reason }) => sum + KERNEL_USE_CHARACTERS + reason.length, 0);
}

/** EXEC, RETURN: packets = the frame. CANCEL: the lane is not needed any more. */
export const LaneMeta: v.GenericSchema<unknown, { lane: number }> = v.object({ lane: count });

/** What an EXEC or a RETURN says of its lane beside its packets: nothing where the first of those says it already. */
export function laneMeta(lane: number, packets: Uint8Array): { lane: number } | undefined {
  return packetCount(packets) > 0 && laneAt(packets, 0) === lane ? undefined : { lane };
}

/** The lane that an EXEC or a RETURN is for. Throws PFS_META_INVALID. */
export function laneOf(message: WireMessage): number {
  const { meta, packets } = message;
  return meta === undefined && packetCount(packets) > 0
    ? laneAt(packets, 0)
    : readMeta(LaneMeta, message).lane;
}

/**
 * MEMBERS, from a client: who is there? With `allow`, the node of that id or label gets packets again; with `lanes`, which lanes
 * there are, at most so many of each machine. A hub asks its nodes for theirs.
 */
export type MembersMeta = { op: "allow"; node: string } | { op: "lanes"; lanesMax: number };
export const MembersMeta: v.GenericSchema<unknown, MembersMeta | undefined> = v.optional(
  v.variant("op", [
    v.object({ op: v.literal("allow"), node: label }),
    v.object({ op: v.literal("lanes"), lanesMax: v.pipe(count, v.maxValue(LANES_LISTED_MAX)) }),
  ]),
);

const use = { packets: count, faults: count, cpuMs: milliseconds, inputBytes: count, outputBytes: count };
const laneUse: v.GenericSchema<unknown, LaneUse> = v.object(use);
const laneInfo: v.GenericSchema<unknown, LaneInfo> = v.object({
  lane: v.pipe(count, v.minValue(1), v.maxValue(LANES_MAX)),
  kind: v.picklist(["js", "kernel", "code"]),
  program: label,
  tenant: v.optional(id),
  state: v.picklist(["loading", "idle", "running", "resting"]),
  inFlight: count,
  ageMs: milliseconds,
  ...use,
});
const lanesInfo = { open: v.pipe(count, v.maxValue(LANES_MAX)), use: laneUse };
const lanesListed = v.pipe(v.array(laneInfo), v.maxLength(LANES_LISTED_MAX));
/** The answer of a node to `lanes`, as JSON in chunks; with the packets that clients sent it themselves, which its hub does not see. */
export interface NodeLanes extends LanesInfo {
  /** GPUs that it does not use, and why. */
  readonly unusedAccelerators?: readonly UnusedAccelerator[] | undefined;
  readonly granted?: Readonly<GrantedPackets> | undefined;
}
export const NodeLanes: v.GenericSchema<unknown, NodeLanes> = v.object({
  ...lanesInfo,
  lanes: lanesListed,
  unusedAccelerators: v.exactOptional(unusedAccelerators),
  granted: v.optional(v.object({ inFlight: count, done: count })),
});

/** The answer of a hub: those of the machines that say so, as JSON in chunks. */
export interface MachineLanes extends LanesInfo {
  readonly id: string;
  readonly label: string;
}
export const MachinesLanes: v.GenericSchema<unknown, MachineLanes[]> = v.array(
  v.object({ id, label, ...lanesInfo, lanes: lanesListed }),
);

/** MEMBERS: chunks = JSON. From a hub to its nodes it is the allow list itself, as an answer to a client the nodes there are. */
export interface NodeStatus {
  readonly id: string;
  readonly label: string;
  readonly role: "hub" | "node";
  readonly address?: string | undefined;
  /** Public keys, hexadecimal digits. */
  readonly curveKey: string;
  readonly signingKey: string;
  readonly workers: number;
  readonly editions: Editions;
  /** GPUs that kernels run on there, and those that they do not run on, with the reasons, where it says so. */
  readonly accelerators: readonly AcceleratorInfo[];
  readonly unusedAccelerators?: readonly UnusedAccelerator[] | undefined;
  /** What stands between programs and the machine, where it is known. */
  readonly walls?: readonly string[] | undefined;
  readonly inFlight: number;
  readonly done: number;
  readonly lastSeenMs: number;
  /** How many lanes it has open, and what all packets took since it was started; left out where it does not say. */
  readonly lanes?: Pick<LanesInfo, "open" | "use"> | undefined;
  /** Kinds of program of which its executors get no packets, and why. */
  readonly barred: readonly BarInfo[];
}
const key = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));
export const NodeStatuses: v.GenericSchema<unknown, NodeStatus[]> = v.array(
  v.object({
    id,
    label,
    role: v.picklist(["hub", "node"]),
    address: v.optional(v.string()),
    curveKey: key,
    signingKey: key,
    workers: count,
    editions: v.object({
      js: v.exactOptional(v.array(label)),
      kernel: v.exactOptional(v.array(label)),
      code: v.exactOptional(v.array(label)),
    }),
    accelerators: v.optional(acceleratorInfos, []),
    unusedAccelerators: v.exactOptional(unusedAccelerators),
    walls: v.optional(v.array(label)),
    inFlight: count,
    done: count,
    lastSeenMs: milliseconds,
    lanes: v.optional(v.object(lanesInfo)),
    barred: v.optional(v.array(v.object({ kind: label, reason: v.string() })), []),
  }),
);

/** Where a client may send packets of a loaded program itself, and how much work that place does beside others. */
export interface DirectNode {
  readonly id: string;
  readonly label: string;
  readonly address: string;
  /** Public keys, hexadecimal digits. */
  readonly curveKey: string;
  readonly signingKey: string;
  readonly weight: number;
  readonly grant: Grant;
}
/** The answer to JOB `grant`: nodes, and how much work those do beside them that are reached through the hub alone. */
export interface GrantedMeta {
  readonly nodes: readonly DirectNode[];
  readonly others: number;
  /** Within so many milliseconds a node answers a packet, whatever becomes of it. */
  readonly packetMs: number;
}
export const GrantedMeta: v.GenericSchema<unknown, GrantedMeta> = v.object({
  nodes: v.pipe(
    v.array(
      v.object({
        id,
        label,
        address: v.pipe(v.string(), v.maxLength(ADDRESS_CHARACTERS_MAX)),
        curveKey: key,
        signingKey: key,
        weight: v.pipe(count, v.minValue(1)),
        grant: Grant,
      }),
    ),
    v.maxLength(GRANTS_PER_ANSWER_MAX),
  ),
  others: count,
  packetMs: count,
});

const fileName = v.pipe(
  v.string(),
  v.check((text) => invalidFileName(text) === null, "a program's file is called as a property is"),
);

/** JOB `run` and `load`: chunks = the program's arguments as JSON. `code` is the root of its bundle's stream, or packet code. */
const program = {
  kind: v.optional(v.literal("code")),
  program: label,
  code: ref,
  beside: v.optional(v.pipe(v.array(v.object({ as: fileName, file })), v.maxLength(PROGRAM_FILES_MAX))),
  engine: v.optional(engineSchema),
};

/** A file that a program has beside those that it reads, and what it calls it. */
export interface NamedFile {
  readonly as: string;
  readonly file: string;
}

/** What is run or loaded, and by what. */
interface ProgramMeta {
  kind?: "code" | undefined;
  program: string;
  code: Uint8Array;
  beside?: NamedFile[] | undefined;
  engine?: Engine | undefined;
}
export type JobMeta =
  | ({
      op: "run";
      /** The client's own number for the job. Asked for again under it, the job is found where it was. */
      number?: string | undefined;
      /** The number of the last event of it that the client has seen. */
      seen?: number | undefined;
      /** The client's own number for itself, which all its sessions have in common. */
      instance?: string | undefined;
      files: string[];
      out?: string | undefined;
      splitBytes?: number | undefined;
    } & ProgramMeta)
  | ({ op: "load" } & ProgramMeta)
  /** packets = EXEC, answered by RETURN and FAULT. */
  | { op: "exec"; loaded: string }
  | { op: "unload"; loaded: string }
  /** Which nodes may the client send packets of the program to itself? */
  | { op: "grant"; loaded: string }
  | { op: "list" }
  | { op: "cancel"; job: string }
  /** A notification: the client has what came of the job with this number, which need not be kept for it any more. */
  | { op: "received"; number: string }
  /** A notification: the client is the one whose connection broke, and may read what came of its jobs. */
  | { op: "return"; instance: string };
export const JobMeta: v.GenericSchema<unknown, JobMeta> = v.variant("op", [
  v.object({
    op: v.literal("run"),
    number: v.optional(id),
    seen: v.optional(count),
    instance: v.optional(id),
    ...program,
    files: v.pipe(v.array(file), v.minLength(1), v.maxLength(JOB_FILES_MAX)),
    out: v.optional(name),
    splitBytes: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(1))),
  }),
  v.object({ op: v.literal("load"), ...program }),
  v.object({ op: v.literal("exec"), loaded: id }),
  v.object({ op: v.literal("unload"), loaded: id }),
  v.object({ op: v.literal("grant"), loaded: id }),
  v.object({ op: v.literal("list") }),
  v.object({ op: v.literal("cancel"), job: id }),
  v.object({ op: v.literal("received"), number: id }),
  v.object({ op: v.literal("return"), instance: id }),
]);

/** The answer to `load`. */
export const LoadedMeta: v.GenericSchema<unknown, { loaded: string }> = v.object({ loaded: id });

const jobEvent = v.variant("kind", [
  v.object({ kind: v.literal("started"), job: id, tasks: count, inputBytes: count }),
  v.pipe(
    v.object({
      kind: v.literal("progress"),
      job: id,
      done: count,
      tasks: count,
      doneBytes: count,
      inputBytes: count,
    }),
    v.check(
      ({ done, tasks, doneBytes, inputBytes }) => done <= tasks && doneBytes <= inputBytes,
      "more than all is done",
    ),
  ),
  v.object({ kind: v.literal("log"), job: id, at: count, node: v.string(), text: v.string() }),
  v.object({ kind: v.literal("note"), job: id, text: v.string() }),
]);
/** JOB_EVENT, before the last answer to `run`: `number` is its place among those of the job, from 1. */
export type JobEventMeta = { number: number; event: JobEvent };
export const JobEventMeta: v.GenericSchema<unknown, JobEventMeta> = v.object({
  number: count,
  event: jobEvent,
});

/** The last answer to `run`, as JSON in chunks. The value itself came before it, in FILE_DATA messages. */
export type OutcomeJson = Omit<JobOutcome, "value"> & { readonly hasValue: boolean };
export const OutcomeJson: v.GenericSchema<unknown, OutcomeJson> = v.object({
  job: id,
  yields: v.picklist(["value", "groups", "bytes"]),
  file: v.exactOptional(v.object({ name: v.exactOptional(name), root: key, length: count })),
  hasValue: v.boolean(),
  statistics: v.object({
    tasks: count,
    inputBytes: count,
    milliseconds,
    retries: count,
    byNode: v.record(v.string(), count),
    notes: v.array(v.string()),
    edition: v.exactOptional(label),
    kernels: v.exactOptional(kernelReportsSchema),
  }),
});

const scalar = v.union([v.string(), v.number(), v.boolean()]);
/** The answer to `list`, as JSON in chunks. */
export const JobInfos: v.GenericSchema<unknown, JobInfo[]> = v.array(
  v.object({
    job: v.string(),
    program: v.string(),
    state: v.picklist(["running", "done", "failed", "cancelled"]),
    startedAt: v.number(),
    milliseconds,
    done: count,
    tasks: count,
    error: v.exactOptional(
      v.object({ code: v.string(), message: v.string(), data: v.record(v.string(), scalar) }),
    ),
    kernels: v.exactOptional(kernelReportsSchema),
  }),
);

/**
 * MAINTENANCE: verify or gc of the store behind the link, and of those behind a hub; the answer is JSON in chunks. For those
 * it waits `nodesMs`, and without it as long as they say that they are at work.
 */
export type MaintenanceMeta = { op: "verify" | "gc"; nodesMs?: number | undefined };
export const MaintenanceMeta: v.GenericSchema<unknown, MaintenanceMeta> = v.object({
  op: v.picklist(["verify", "gc"]),
  nodesMs: v.optional(v.pipe(v.number(), v.minValue(1), v.maxValue(NODES_WAIT_MS_MAX))),
});
export const StoreReportJson: v.GenericSchema<unknown, StoreReport> = v.object({
  chunks: count,
  bytes: count,
  damaged: v.array(v.string()),
  repaired: v.optional(v.array(v.string()), []),
  incomplete: v.array(v.string()),
  lostRecords: count,
  mendedRecords: v.optional(count, 0),
  // A node says of nobody else, and a hub of an older version of nobody.
  stores: v.optional(
    v.array(
      v.object({
        label,
        damaged: v.array(v.string()),
        repaired: v.array(v.string()),
        lostRecords: count,
      }),
    ),
    [],
  ),
  unreachable: v.optional(v.array(v.string()), []),
});
export const GcResultJson: v.GenericSchema<unknown, GcResult> = v.object({
  keptChunks: count,
  freedChunks: count,
  freedBytes: count,
  incomplete: v.optional(v.array(v.string()), []),
  unreadableSegments: v.optional(count, 0),
  unreachable: v.optional(v.array(v.string()), []),
});
