/** What goes wrong on bulk channels. */
import { WireError, WireErrorCode } from "../../errors.ts";

/** Bytes came that are not the next ones that the peer sealed. */
export function bulkDamaged(reason: string): WireError {
  const message = `the bytes of a bulk channel are not those that its peer sent: ${reason}`;
  return new WireError(WireErrorCode.bulkDamaged, message, { reason });
}

/** The connection ended without a word. */
export function bulkCut(reason: string, cause?: unknown): WireError {
  const message = `a bulk channel was cut: ${reason}`;
  return new WireError(WireErrorCode.bulkCut, message, { reason }, { cause });
}

/** There is no channel; what would go over it can go over the session. */
export function bulkUnavailable(reason: string, cause?: unknown): WireError {
  const message = `there is no bulk channel: ${reason}`;
  return new WireError(WireErrorCode.bulkUnavailable, message, { reason }, { cause });
}

/** The peer said that nothing comes any more. */
export function closedThere(): WireError {
  return new WireError(WireErrorCode.closed, "the bulk channel was closed by its peer");
}
