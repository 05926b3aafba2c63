/** What a liar makes of messages. */
import { decodeTransfer, encodeTransfer } from "../../nodes/transfer/replication/messages.ts";
import type { TransferMessage } from "../../nodes/transfer/replication/messages.ts";
import type { Random } from "./random.ts";
import type { SimMessage } from "./transfer-end.ts";

/** What it sends in the message's place: one, two, or none. */
export function lieOf(random: Random, message: SimMessage): SimMessage[] {
  const { head, body } = message;
  switch (random.integer(0, 7)) {
    case 0: {
      const twisted = head.map((byte) => (random.chance(0.05) ? random.integer(0, 255) : byte));
      return [{ ...message, head: twisted }];
    }
    case 1:
      return [message, message];
    case 2:
      return [];
    case 3: {
      const chunks = body?.chunks.map((chunk) => ({ ...chunk, isGood: random.chance(0.3) }));
      return [chunks === undefined ? message : { ...message, body: { ...body!, chunks } }];
    }
    case 4:
      return [body === undefined ? message : { ...message, body: { ...body, chunks: body.chunks.slice(1) } }];
    case 5:
      return [body === undefined ? message : { ...message, body: { ...body, isReadable: false } }];
    case 6: {
      const noise = new Uint8Array(random.integer(0, 40)).map(() => random.integer(0, 255));
      return [{ ...message, head: noise }];
    }
    default:
      return [{ ...message, head: miscounted(random, message) }];
  }
}

/** A number in it is another one. */
function miscounted(random: Random, { type, head, body }: SimMessage): Uint8Array {
  const message = decodeTransfer(type, head, body?.bytes ?? 0);
  const numbers = Object.entries(message).filter(
    ([key, value]) => key !== "kind" && typeof value === "number",
  );
  const [key, value] = numbers[random.integer(0, numbers.length - 1)]! as [string, number];
  const other = Math.max(0, value + random.integer(-2, 2) * (value > 1_000 ? 100_000 : 1));
  return encodeTransfer({ ...message, [key]: other } as TransferMessage);
}
