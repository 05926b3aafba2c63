/** The sentences that end requests and sessions. */
import type { PacketfsError } from "../../../packets/errors.ts";
import { messageTypeName } from "../../../packets/envelope.ts";
import { WireError, WireErrorCode } from "../../errors.ts";

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
