/** The console: what packets log is kept as text up to their budget, and goes out with the frame's results. */
import type { Faults } from "./faults.ts";
import type { Primordials } from "./primordials.ts";
import type { TextCodec } from "./text-codec.ts";

export interface PacketLog {
  /** Bytes of UTF-8 that each packet may log; none until this was called. */
  allow(bytes: number): void;
  /** A packet begins. */
  begin(): void;
  /** What `run` logs is not kept. */
  apart<Value>(run: () => Value): Value;
  /** Logs a line, as the console does. */
  write(line: string): void;
  /** Bytes that the packet may still log. */
  left(): number;
  /** What it logged, and how many bytes of UTF-8 that is. */
  text(): string;
  bytes(): number;
}

export interface ConsoleTools {
  readonly codec: TextCodec;
  readonly faults: Faults;
}

export function installConsole(p: Primordials, { codec, faults }: ConsoleTools): PacketLog {
  const CUT = "… (log limit reached)";
  let text = "";
  let bytesMax = 0;
  let left = 0;

  function shown(value: unknown): string {
    if (typeof value === "string") return value;
    if (typeof value === "bigint") return `${value}n`;
    if (typeof value === "symbol" || typeof value === "function") return `[${typeof value}]`;
    if (typeof value !== "object" || value === null) return `${value as number}`;
    try {
      if (typeof (value as { stack?: unknown }).stack === "string") return faults.describe(value);
      return p.stringify(value) ?? "undefined";
    } catch {
      return "[object]";
    }
  }

  function log(...values: unknown[]): void {
    for (let index = 0; index < values.length && left > 0; index++) {
      let part = shown(values[index]);
      if (part.length > left) part = p.slice(part, 0, left);
      add(index === 0 && text !== "" ? "\n" : index === 0 ? "" : " ");
      add(part);
    }
  }

  /** Characters of several bytes make the last part shorter than it could be: the budget is a bound, no promise. */
  function add(part: string): void {
    if (left <= 0) return;
    let bytes = codec.encodedLength(part);
    let kept = part;
    while (bytes > left) {
      kept = p.slice(kept, 0, kept.length >> 1);
      bytes = codec.encodedLength(kept);
    }
    text += kept;
    left -= bytes;
    if (kept !== part || left <= 0) {
      text += CUT;
      left = 0;
    }
  }

  const methods = { log, info: log, warn: log, error: log, debug: log };
  p.defineProperty(globalThis, "console", {
    value: methods,
    writable: true,
    configurable: true,
    enumerable: false,
  });
  return {
    allow(bytes) {
      bytesMax = bytes;
      left = bytes;
    },
    begin() {
      text = "";
      left = bytesMax;
    },
    apart(run) {
      const [textBefore, leftBefore] = [text, left];
      left = 0;
      try {
        return run();
      } finally {
        text = textBefore;
        left = leftBefore;
      }
    },
    write: log,
    left: () => left,
    text: () => text,
    bytes: () => codec.encodedLength(text),
  };
}
