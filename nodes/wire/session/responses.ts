/**
 * The peer's requests that are not answered for good. Replies of a stream beyond what its reader has room for wait here,
 * in order, until the reader takes some.
 */
import type { Priority } from "../../../packets/envelope.ts";
import { REQUESTS_PER_LINK_MAX, STREAM_WINDOW_BYTES } from "../../limits.ts";
import type { OutFrame } from "./message.ts";

interface Answer {
  /** Bytes that the reader still has room for; below zero by the last message that began while there was room. */
  room: number;
  readonly held: OutFrame[];
  /** The class of the first reply, and so of all: in different classes they would overtake each other. */
  priority: Priority | undefined;
  /** Whether the last reply was given, though it may be held. */
  isComplete: boolean;
}

export class AnswerBook {
  readonly #answers = new Map<number, Answer>();
  #heldBytes = 0;

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Writes a request of the peer down, unless there are too many, or one under that number already. */
  open(request: number): "opened" | "full" | "repeated" {
    if (this.#answers.has(request)) return "repeated";
    if (this.#answers.size >= REQUESTS_PER_LINK_MAX) return "full";
    this.#answers.set(request, {
      room: STREAM_WINDOW_BYTES,
      held: [],
      priority: undefined,
      isComplete: false,
    });
    return "opened";
  }

  /** Whether an answer is still wanted. */
  isOpen(request: number): boolean {
    return this.#answers.get(request)?.isComplete === false;
  }

  hasRoom(request: number): boolean {
    const answer = this.#answers.get(request);
    return answer === undefined || (answer.room > 0 && answer.held.length === 0);
  }

  /** Answers; the frames that may leave now. */
  answer(request: number, frame: OutFrame, isLast: boolean): OutFrame[] {
    const answer = this.#answers.get(request);
    if (answer === undefined) return [];
    answer.isComplete = isLast;
    answer.priority ??= frame.priority;
    answer.held.push(answer.priority === frame.priority ? frame : { ...frame, priority: answer.priority });
    this.#heldBytes += frame.cost;
    return this.#release(request, answer);
  }

  /** The reader took `bytes`; the frames that may leave now. */
  credited(request: number, bytes: number): OutFrame[] {
    const answer = this.#answers.get(request);
    if (answer === undefined) return [];
    answer.room = Math.min(STREAM_WINDOW_BYTES, answer.room + bytes);
    return this.#release(request, answer);
  }

  /** The asker does not want the answer any more. Whether it was still missing. */
  withdraw(request: number): boolean {
    const answer = this.#answers.get(request);
    if (answer === undefined) return false;
    this.#answers.delete(request);
    for (const frame of answer.held) this.#heldBytes -= frame.cost;
    return !answer.isComplete;
  }

  /** Forgets everything, and says what was not answered. */
  clear(): number[] {
    const requests = [...this.#answers]
      .filter(([, { isComplete }]) => !isComplete)
      .map(([request]) => request);
    this.#answers.clear();
    this.#heldBytes = 0;
    return requests;
  }

  #release(request: number, answer: Answer): OutFrame[] {
    const frames: OutFrame[] = [];
    // The last reply ends the stream, so it needs no room of its own.
    while (answer.held.length > 0 && (answer.room > 0 || (answer.isComplete && answer.held.length === 1))) {
      const frame = answer.held.shift()!;
      this.#heldBytes -= frame.cost;
      answer.room -= frame.cost;
      frames.push(frame);
    }
    if (answer.isComplete && answer.held.length === 0) this.#answers.delete(request);
    return frames;
  }
}
