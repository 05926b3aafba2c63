/** What links say to each other about themselves. */
import { MessageType, Priority } from "../../../packets/envelope.ts";
import { outFrame } from "./message.ts";
import type { OutFrame } from "./message.ts";

const { control: priority } = Priority;

export const PING: OutFrame = outFrame({ type: MessageType.PING, priority });
export const PONG: OutFrame = outFrame({ type: MessageType.PONG, priority });
/** Carries what the window has to tell when nothing else does. */
export const CREDIT: OutFrame = outFrame({ type: MessageType.CREDIT, priority });

/** The reader of a stream has room for so many bytes more. */
export function streamCredit(request: number, streamCreditBytes: number): OutFrame {
  return outFrame({ type: MessageType.CREDIT, priority }, { request, streamCreditBytes });
}
