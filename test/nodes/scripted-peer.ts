/** A peer in memory that answers each type of message as a test says, true or not. */
import type { MessageType } from "../../packets/envelope.ts";
import type { Link, OutMessage, PeerInfo, Reply, WireMessage } from "../../nodes/wire/link.ts";
import { memoryPair } from "./wire/memory-pair.ts";

/** What it resolves with is the last reply; undefined for none. */
export type Answer = (
  message: WireMessage,
  reply: Reply,
) => OutMessage | undefined | Promise<OutMessage | undefined>;
export type Script = Partial<Record<MessageType, Answer>>;

export interface ScriptedPeer {
  /** This side's link to the peer. */
  readonly link: Link;
  /** The peer's own, for what it says unasked. */
  readonly peer: Link;
  /** What it was asked, by type. */
  readonly asked: MessageType[];
  readonly cut: () => void;
}

/** `said` is what the peer says of itself. What the script has no answer for is never answered. */
export function scriptedPeer(script: Script, said: Partial<PeerInfo> = {}): ScriptedPeer {
  const { near, far, cut } = memoryPair({ far: said });
  const asked: MessageType[] = [];
  far.onRequest(async (message, reply) => {
    asked.push(message.type);
    const answer = await script[message.type]?.(message, reply);
    if (answer !== undefined) reply(answer);
  });
  return { link: near, peer: far, asked, cut };
}
