/**
 * The metadata of every message above the handshake, by message type: what stands in frame 1, as MessagePack. Bytes that
 * are many (refs, packets, chunks) stand in the frames behind it. Nothing that a peer sent is used before it went
 * through one of these.
 */
import * as v from "valibot";
import { NAME_BYTES_MAX } from "../packets/limits.ts";
import type { NameRecord } from "../runtime/contracts/catalog.ts";
import { LABEL_CHARACTERS_MAX, LIST_ENTRIES_MAX, LOG_CHARACTERS_MAX } from "./limits.ts";

export const count: v.GenericSchema<unknown, number> = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
export const milliseconds: v.GenericSchema<unknown, number> = v.pipe(v.number(), v.finite(), v.minValue(0));
export const name: v.GenericSchema<unknown, string> = v.pipe(v.string(), v.maxLength(NAME_BYTES_MAX));
export const id: v.GenericSchema<unknown, string> = v.pipe(v.string(), v.regex(/^[0-9a-zA-Z._-]{1,64}$/));
export const label: v.GenericSchema<unknown, string> = v.pipe(v.string(), v.maxLength(LABEL_CHARACTERS_MAX));
export const ref: v.GenericSchema<unknown, Uint8Array> = v.pipe(
  v.instance(Uint8Array),
  v.check((bytes) => bytes.byteLength === 32, "a ref has 32 bytes"),
);
const codec = v.picklist([0, 1]);

/** WANT: chunks = refs. Which are there? With `put`, those that are stay until the put ends. */
export const WantMeta: v.GenericSchema<unknown, { put?: string | undefined; here?: boolean | undefined }> =
  v.object({
    put: v.optional(id),
    here: v.optional(v.boolean()),
  });

/** FILE_REQUEST: chunks = refs. `here` forbids the node to ask others for what it lacks. */
export const FileRequestMeta: v.GenericSchema<unknown, { here: boolean }> = v.object({ here: v.boolean() });

/** FILE_DATA: packets = COPY, chunks = body. `missing` are indexes of refs that are nowhere; others may be asked again. */
export const FileDataMeta: v.GenericSchema<unknown, { codec: 0 | 1; missing: number[] }> = v.object({
  codec,
  missing: v.array(count),
});

/** STORE: packets = COPY, chunks = body. */
export const StoreMeta: v.GenericSchema<unknown, { put: string; codec: 0 | 1 }> = v.object({
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

/** NAME: one question about the catalog or one change of it. */
export type NameMeta =
  | { op: "set"; name: string; root: Uint8Array; length: number; put: string }
  | { op: "resolve"; name: string }
  | { op: "list"; prefix: string; after: string }
  | { op: "remove"; name: string }
  | { op: "flush"; put: string }
  | { op: "end"; put: string };
export const NameMeta: v.GenericSchema<unknown, NameMeta> = v.variant("op", [
  v.object({ op: v.literal("set"), name, root: ref, length: count, put: id }),
  v.object({ op: v.literal("resolve"), name }),
  v.object({ op: v.literal("list"), prefix: name, after: name }),
  v.object({ op: v.literal("remove"), name }),
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
/** The answer to NAME: the records asked for; a list has more when `more` is true. */
export const NamesMeta: v.GenericSchema<unknown, { records: NameRecord[]; more: boolean }> = v.object({
  records: v.pipe(v.array(nameRecord), v.maxLength(LIST_ENTRIES_MAX)),
  more: v.boolean(),
});

/** LOAD: packets = one LOAD packet, its lane chosen by the sender. KEEP: packets = RETURN packets. */
export const KeepMeta: v.GenericSchema<unknown, { lane: number; name: string }> = v.object({
  lane: count,
  name,
});
export const KeptMeta: v.GenericSchema<unknown, { root: Uint8Array }> = v.object({ root: ref });

/** LOG: what a lane has to say beside its packets. */
export type LaneNews =
  | { kind: "log"; lane: number; at: number; text: string }
  | { kind: "note"; lane: number; text: string }
  | { kind: "lost"; lane: number; error: unknown };
const text = v.pipe(v.string(), v.maxLength(LOG_CHARACTERS_MAX));
export const LaneNews: v.GenericSchema<unknown, LaneNews> = v.variant("kind", [
  v.object({ kind: v.literal("log"), lane: count, at: count, text }),
  v.object({ kind: v.literal("note"), lane: count, text }),
  v.object({ kind: v.literal("lost"), lane: count, error: v.unknown() }),
]);
/** EXEC, RETURN: packets = the frame. CANCEL: the lane is not needed any more. */
export const LaneMeta: v.GenericSchema<unknown, { lane: number }> = v.object({ lane: count });

/** ROSTER: chunks = JSON. From a hub to its nodes it is the roster itself, as an answer to a client the nodes there are. */
export interface NodeStatus {
  readonly id: string;
  readonly label: string;
  readonly role: "hub" | "node";
  readonly address?: string | undefined;
  /** Public keys, hexadecimal digits. */
  readonly curveKey: string;
  readonly signingKey: string;
  readonly width: number;
  readonly inFlight: number;
  readonly done: number;
  readonly lastSeenMs: number;
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
    width: count,
    inFlight: count,
    done: count,
    lastSeenMs: milliseconds,
  }),
);
