/** The errors that end requests and sessions, and how errors cross the wire: as ERROR messages, bounded and checked. */
import * as v from "valibot";
import { messageTypeName, EnvelopeFlag, MessageType, Priority } from "../../../packets/envelope.ts";
import { PacketfsError } from "../../../packets/errors.ts";
import type { ErrorData, ErrorJson } from "../../../packets/errors.ts";
import { WireError, WireErrorCode } from "../../errors.ts";
import type { OutMessage, WireMessage } from "../link.ts";
import { outFrame } from "./message.ts";
import type { OutFrame } from "./message.ts";
import {
  ERROR_CAUSES_MAX,
  ERROR_CHARACTERS_MAX,
  ERROR_DATA_CHARACTERS_MAX,
  ERROR_DATA_ENTRIES_MAX,
} from "../../limits.ts";

export function lost(peer: string, reason: string): WireError {
  return new WireError(WireErrorCode.nodeLost, `the session with ${peer} is lost: ${reason}`, {
    peer,
    reason,
  });
}

/** The peer said why it ends the session. */
export function endedBy(peer: string, cause: PacketfsError): WireError {
  const reason = cause.code;
  const message = `the session with ${peer} was ended by it: ${cause.message}`;
  return new WireError(WireErrorCode.nodeLost, message, { peer, reason }, { cause });
}

export function offence(peer: string, reason: string): WireError {
  const message = `the session with ${peer} was ended because of a message against the rules: ${reason}`;
  return new WireError(WireErrorCode.offence, message, { peer, reason });
}

export function slow(peer: string, bufferedBytes: number): WireError {
  const message = `${peer} takes messages too slowly: ${bufferedBytes} bytes wait for it`;
  return new WireError(WireErrorCode.slow, message, { peer, bufferedBytes });
}

export function busy(peer: string): WireError {
  return new WireError(WireErrorCode.busy, `too many unanswered requests of ${peer}`, { peer });
}

export function expired(peer: string): WireError {
  return new WireError(WireErrorCode.timeout, `${peer} did not answer in time`, { peer });
}

/** The peer keeps its session alive, and that is all that it does. */
export function silent(peer: string, silentMs: number): WireError {
  const seconds = Math.round(silentMs / 1000);
  const message = `${peer} has said nothing about a request for ${seconds} s, though its session lives`;
  return new WireError(WireErrorCode.timeout, message, { peer, silentMs: Math.round(silentMs) });
}

export function cancelled(): WireError {
  return new WireError(WireErrorCode.cancelled, "the request was cancelled");
}

export function closedHere(): WireError {
  return new WireError(WireErrorCode.closed, "the link was closed");
}

export function unknownType(type: number): WireError {
  const message = `nobody here answers messages of ${messageTypeName(type)}`;
  return new WireError(WireErrorCode.messageUnknown, message, { type });
}

/** What an error that a peer tells may have beside its code and message. */
export const errorData: v.GenericSchema<unknown, ErrorData> = v.record(
  v.pipe(v.string(), v.maxLength(64)),
  v.union([v.string(), v.number(), v.boolean()]),
);

const errorJson = v.object({
  code: v.pipe(v.string(), v.regex(/^PFS_[A-Z0-9_]{1,60}$/)),
  message: v.pipe(v.string(), v.maxLength(ERROR_CHARACTERS_MAX)),
  data: v.optional(errorData, {}),
  cause: v.optional(v.unknown()),
});

/** What a peer is told of an error, of which it takes so much and no more. */
export function boundedError(error: PacketfsError): ErrorJson {
  return bounded(error.toJSON(), 0);
}

/** The message that says `error`: as a reply, or about the session itself when it belongs to no request. */
export function errorMessage(error: PacketfsError): OutMessage {
  return { type: MessageType.ERROR, priority: Priority.control, meta: boundedError(error) };
}

/** The same, ready to leave. */
export function errorFrame(error: PacketfsError, request: number, isReply: boolean): OutFrame {
  return outFrame(errorMessage(error), { request, flags: isReply ? EnvelopeFlag.REPLY : 0 });
}

/** The error that an ERROR message says. */
export function errorOf(message: WireMessage): PacketfsError {
  return readError(message.meta);
}

/** The error that a peer told as JSON. What it made up badly becomes PFS_INTERNAL. */
export function readError(json: unknown, depth: number = 0): PacketfsError {
  const result = v.safeParse(errorJson, json);
  if (!result.success)
    return new PacketfsError("PFS_INTERNAL", "the peer reported an error that cannot be read");
  const { code, message, data, cause } = result.output;
  const hasCause = cause !== undefined && depth < ERROR_CAUSES_MAX;
  return new PacketfsError(
    code,
    message,
    data,
    hasCause ? { cause: readError(cause, depth + 1) } : undefined,
  );
}

function bounded(json: ErrorJson, depth: number): ErrorJson {
  const data: Record<string, ErrorData[string]> = {};
  for (const [key, value] of Object.entries(json.data).slice(0, ERROR_DATA_ENTRIES_MAX)) {
    data[key.slice(0, 64)] = typeof value === "string" ? value.slice(0, ERROR_DATA_CHARACTERS_MAX) : value;
  }
  const short = { code: json.code, message: json.message.slice(0, ERROR_CHARACTERS_MAX), data };
  if (json.cause === undefined || depth === ERROR_CAUSES_MAX) return short;
  return { ...short, cause: bounded(json.cause, depth + 1) };
}
