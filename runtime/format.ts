/** Sizes, times and errors as people read them, the same in every sentence of every part. */
import prettyBytes from "pretty-bytes";
import prettyMilliseconds from "pretty-ms";

/** "12.3 MB": decimal units, three digits. */
export function formatBytes(bytes: number): string {
  return prettyBytes(bytes);
}

/** "1,234,567". */
export function formatCount(count: number): string {
  // Not by toLocaleString, which loads what it knows of the language: a tenth of a short command.
  return String(count).replace(/\B(?=(?:\d{3})+$)/g, ",");
}

/** "1 chunk", "1,234 chunks". */
export function plural(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** "42ms", "4.2s", "3m 5s", "2h 10m", "4d": two units, tenths of seconds below a minute; with one unit "3m", "2h". */
export function formatDuration(milliseconds: number, unitCount: 1 | 2 = 2): string {
  const secondsDecimalDigits = milliseconds < 60_000 && unitCount === 2 ? 1 : 0;
  return prettyMilliseconds(milliseconds, { unitCount, secondsDecimalDigits });
}

/**
 * An error's message in two parts: its sentence, which may have line ends of its own where a program has chosen it, and the
 * lines of a stack that it ends with.
 */
export function splitStack(message: string): {
  readonly sentence: string;
  readonly stack: readonly string[];
} {
  const lines = message.split("\n");
  let end = lines.length;
  while (end > 1 && lines[end - 1]!.startsWith("    at ")) end--;
  return { sentence: lines.slice(0, end).join("\n"), stack: lines.slice(end) };
}
