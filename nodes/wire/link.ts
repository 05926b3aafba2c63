/**
 * A link is a session with one peer, the same from both ends: whoever dialed, both may ask and both may answer. It ends once;
 * what a new session with the same peer brings is another link.
 */
import type { MessageType, Priority } from "../../packets/envelope.ts";
import type { PacketfsError } from "../../packets/errors.ts";
import type { Capacity } from "../../runtime/contracts/executor.ts";
import type { BulkLink } from "./bulk/dialing.ts";
import type { AcceleratorInfo } from "../../runtime/contracts/kernels.ts";

/**
 * What a peer is in the network, which says what it may ask for (`nodes/serve/permissions.ts`). A client may do everything, a
 * reader reads, a submitter reads and runs programs. A join token lets its bearer become a node, and nothing else.
 */
export const Role = {
  hub: "hub",
  node: "node",
  client: "client",
  reader: "reader",
  submitter: "submitter",
  /** The bearer of a join token, as allow lists of every version have it. */
  join: "invite",
} as const;
export type Role = (typeof Role)[keyof typeof Role];

/** Whether somebody uses the network by a token, whatever it lets him do. */
export function isClient(role: Role): boolean {
  return role === Role.client || role === Role.reader || role === Role.submitter;
}

/** An executor that a machine lends, as its HELLO says. */
export interface ExecutorOffer {
  /** Unique on its machine. */
  readonly name: string;
  readonly capacity: Capacity;
  readonly edition: string;
  /** What runs the kernels of its programs, where that is a GPU. */
  readonly accelerator?: AcceleratorInfo;
  /** What stands between its programs and its machine, for people, where it says so. */
  readonly walls?: readonly string[];
}

/** The peer as its signed HELLO (or WELCOME) said and its keys proved. */
export interface PeerInfo {
  /** 32 hexadecimal digits. */
  readonly id: string;
  readonly role: Role;
  readonly label: string;
  /** HOST:PORT where it says that others reach it. */
  readonly address?: string;
  readonly features: readonly string[];
  /** What it lends; none for a machine that only stores. */
  readonly executors: readonly ExecutorOffer[];
  readonly version: number;
  readonly signingKey: Uint8Array;
  readonly curveKey: Uint8Array;
}

/** What a peer said. The byte arrays are the receiver's own; packets and chunks are not validated yet. */
export interface WireMessage {
  readonly type: MessageType;
  /** EnvelopeFlag bits. */
  readonly flags: number;
  readonly priority: Priority;
  /** The asker's number, 0 when nothing was asked. */
  readonly requestId: number;
  /** Milliseconds from arrival within which an answer is of use; 0 for none. */
  readonly deadlineMs: number;
  /** Decoded MessagePack of unknown shape: read it with `readMeta`. */
  readonly meta: unknown;
  /** n × 64 bytes. */
  readonly packets: Uint8Array;
  readonly chunks: Uint8Array;
  /** 16 bytes that follow a job or a file across machines. */
  readonly trace: Uint8Array;
}

/** Smaller ones share their memory with others, and cost nobody much. */
const DISCARDED_BYTES_MIN = 1024;

/**
 * Nobody needs the message's packets any more, and their memory is free at once: of what waits for V8's next search for garbage,
 * many large messages would make it search all the time.
 */
export function discardPackets({ packets }: WireMessage): void {
  const { buffer, byteLength } = packets;
  if (byteLength < DISCARDED_BYTES_MIN || byteLength !== buffer.byteLength) return;
  if (buffer instanceof ArrayBuffer) buffer.transfer(0);
}

/**
 * What to say. The link owns the bytes from then on: they leave without a copy, so they must not change afterwards. The
 * default priority is interactive.
 */
export interface OutMessage {
  readonly type: MessageType;
  readonly priority?: Priority;
  readonly meta?: unknown;
  readonly packets?: Uint8Array;
  readonly chunks?: Uint8Array;
  readonly trace?: Uint8Array;
}

export interface RequestOptions {
  /** Withdraws the request; it rejects with the signal's own reason. */
  readonly signal?: AbortSignal;
  /** The whole time that it may take, but for time in which this process is too busy to listen; by default there is no such limit. */
  readonly timeoutMs?: number;
  /** How long the peer may say nothing about it while the session lives; the default follows from what is asked. */
  readonly silenceMs?: number;
}

/**
 * Answers one request. `last` (the default) ends it. All replies to a request travel in the class of the first. An ERROR
 * reply rejects the request on the other side with the error that its metadata holds. Answering a notification, or once
 * more after the last reply, does nothing.
 */
export interface Reply {
  (message: OutMessage, last?: boolean): void;
  /** Resolves when the asker has room for another reply. Await it between the replies of a stream. */
  room(): Promise<void>;
  /** Tells the asker that the request is being worked on, so that it does not take this for silence. */
  atWork(): void;
  /** Aborted when the asker withdrew the request (PFS_CANCELLED), or with what ended the session. */
  readonly signal: AbortSignal;
}

/** What it throws or rejects with is the answer; a notification that makes it throw ends the session. */
export type RequestHandler = (message: WireMessage, reply: Reply) => void | Promise<unknown>;

export interface Link {
  readonly peer: PeerInfo;
  /**
   * Resolves with the reply. Rejects with the peer's own error, PFS_REQUEST_TIMEOUT (also when the peer keeps the session
   * alive and says nothing about the request), PFS_PEER_SLOW, PFS_MESSAGE_TOO_LARGE, the signal's own reason, or with what
   * ended the session (PFS_NODE_LOST, PFS_LINK_CLOSED).
   */
  request(message: OutMessage, options?: RequestOptions): Promise<WireMessage>;
  /** Like `request`, with several replies in order, the last one included. Not taking them slows the peer down. */
  stream(message: OutMessage, options?: RequestOptions): AsyncIterable<WireMessage>;
  /** Says something that wants no answer. After the session's end it does nothing; a full queue ends the session. */
  notify(message: OutMessage): void;
  /** Who answers the peer. Requests that came earlier are kept for it. */
  onRequest(handler: RequestHandler): void;
  /** Bytes that wait to be sent. */
  readonly bufferedBytes: number;
  /** Resolves when few bytes wait to be sent, at once when that is so already or the session is over. */
  drained(): Promise<void>;
  /** Milliseconds since the peer last spoke of a request that was given up for its silence; 0 when it answers what it is asked. */
  readonly silentMs: number;
  /** Whether the peer let a request time out in silence lately, and has answered none like it since: others are asked first. */
  readonly isSuspect: boolean;
  /** Called when the peer begins to leave requests without a word, and when it answers again. */
  onSilence(listener: (isSilent: boolean) => void): void;
  /** Connections of its own for many bytes, which whoever dialed opens. Undefined at the port's end, which is told of them. */
  readonly bulk: BulkLink | undefined;
  /** 32 bytes that stand for this session and both its sides, which both know and no other session has. */
  readonly session: Uint8Array;
  /** Why the session is over; undefined while it is not. */
  readonly ended: PacketfsError | undefined;
  /** Resolves, never rejects, with the reason when the session is over. Whoever asks again and again reads `ended`. */
  readonly closed: Promise<PacketfsError>;
  /** Sends what was handed over (within a second), tells the peer, and ends the session. */
  close(): Promise<void>;
}
