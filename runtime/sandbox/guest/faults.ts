/** How a packet fails. Everything that a program throws becomes bounded text in here, while the time limit still holds. */
import type { Primordials } from "./primordials.ts";

export interface Faults {
  /** 0 while the packet does well, otherwise a FaultCode. */
  code(): number;
  text(): string;
  /** A new packet begins. */
  clear(): void;
  /** Ends the packet, though the program catches what is thrown: the first failure counts. */
  fail(code: number, text: string): never;
  /** Takes over whatever a program threw. */
  caught(thrown: unknown): void;
  /** The packet left a promise rejected. */
  reject(text: string): void;
  /** Its name, message and stack lines, bounded. */
  describe(thrown: unknown): string;
}

/** The numbers are those of FaultCode. */
export interface FaultNumbers {
  readonly threw: number;
  readonly memoryLimit: number;
}

export function makeFaults(p: Primordials, numbers: FaultNumbers, textMax: number): Faults {
  const MESSAGE_MAX = textMax >> 1;
  const STACK_LINES_MAX = 8;
  const STACK_LINE_MAX = 160;
  const PROGRAM_FILE = "program.js";
  let code = 0;
  let text = "";

  function bounded(value: string, max: number): string {
    return value.length <= max ? value : p.slice(value, 0, max) + "…";
  }

  /** The lines of a stack that are the program's own. */
  function programLines(stack: string, from: number): string {
    let lines = "";
    let at = p.indexOf(stack, "\n    at ", from);
    for (let count = 0; at >= 0 && count < STACK_LINES_MAX;) {
      const next = p.indexOf(stack, "\n    at ", at + 1);
      const line = p.slice(stack, at, next < 0 ? undefined : next);
      if (line.length < 4096 && p.indexOf(line, PROGRAM_FILE) >= 0) {
        lines += bounded(line, STACK_LINE_MAX);
        count++;
      }
      at = next;
    }
    return lines;
  }

  function describeObject(thrown: { name?: unknown; message?: unknown; stack?: unknown }): string {
    const message = thrown.message;
    if (typeof message !== "string") {
      const json = p.stringify(thrown);
      return "threw " + (json === undefined ? typeof thrown : bounded(json, MESSAGE_MAX));
    }
    const name = thrown.name;
    const stack = thrown.stack;
    const head = typeof name === "string" && name !== "" ? bounded(name, 64) + ": " : "";
    const tail = typeof stack === "string" ? programLines(stack, message.length) : "";
    return head + bounded(message, MESSAGE_MAX) + tail;
  }

  function describe(thrown: unknown): string {
    try {
      if ((typeof thrown === "object" && thrown !== null) || typeof thrown === "function") {
        return describeObject(thrown);
      }
      if (typeof thrown === "symbol") return "threw a symbol";
      return "threw " + bounded(typeof thrown === "string" ? thrown : `${thrown as number}`, MESSAGE_MAX);
    } catch {
      return "threw something that throws when it is looked at";
    }
  }

  return {
    code: () => code,
    text: () => text,
    clear() {
      code = 0;
      text = "";
    },
    fail(failure, reason) {
      if (code === 0) {
        code = failure;
        text = reason;
      }
      // Programs may catch it: one of their own, on which nobody before them has left anything.
      throw new p.Error("the packet has failed");
    },
    reject(reason) {
      if (code !== 0) return;
      code = numbers.threw;
      text = reason;
    },
    caught(thrown) {
      if (code !== 0) return;
      const reason = describe(thrown);
      const noMemory = p.indexOf(reason, "RangeError: Array buffer allocation failed") === 0;
      code = noMemory ? numbers.memoryLimit : numbers.threw;
      text = reason;
    },
    describe,
  };
}
