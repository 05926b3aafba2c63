/** Numbers, sizes, times and foreign text as people read and write them. */
import { inspect } from "node:util";
import measure from "fast-string-truncated-width";
import type { AcceleratorInfo, KernelReport, UnusedAccelerator } from "../../runtime/contracts/kernels.ts";
import { formatBytes, formatCount, formatDuration, plural, splitStack } from "../../runtime/format.ts";
import type { ProgressStep, TransferInfo } from "../packetfs.ts";

export { formatBytes, formatCount, formatDuration, plural } from "../../runtime/format.ts";

const SUFFIXES: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  k: 1e3,
  kb: 1e3,
  kib: 1024,
  m: 1e6,
  mb: 1e6,
  mib: 1024 ** 2,
  g: 1e9,
  gb: 1e9,
  gib: 1024 ** 3,
};

const PEER_COLUMNS_MAX = 12;

/** "12.3 MB/s". */
export function formatRate(bytes: number, milliseconds: number): string {
  return `${formatBytes((bytes / milliseconds) * 1000)}/s`;
}

/** "43 %", never more than there is. */
export function formatShare(part: number, whole: number): string {
  return `${Math.floor((part / whole) * 100)} %`;
}

/** "12 kB sent, 400 B received (1 : 85): 1,000 chunks reused, 3 patched, 1 compressed"; whether it was in the clear is said, too. */
export function formatTransfer({ wireBytes, chunks, ratio, encrypted }: TransferInfo): string {
  const { reused, patched, compressed } = chunks;
  const moved = `${formatBytes(wireBytes.sent)} sent, ${formatBytes(wireBytes.received)} received`;
  const made = [
    ...(reused === undefined ? [] : [`${plural(reused, "chunk")} reused`]),
    `${formatCount(patched)} patched`,
    `${formatCount(compressed)} compressed`,
  ].join(", ");
  return `${moved}${encrypted ? "" : " in the clear"} (1 : ${formatRatio(ratio)}): ${made}`;
}

/** "0.99", "85": never more than it is. */
function formatRatio(ratio: number): string {
  return ratio < 10 ? (Math.floor(ratio * 100) / 100).toFixed(2) : formatCount(Math.floor(ratio));
}

/** "reading", "to lab1", "from lab1": what a line about a file's progress ends with. */
export function formatStep({ doing, peer = "" }: ProgressStep): string {
  if (doing === "reading" || peer === "") return doing;
  return `${doing === "sending" ? "to" : "from"} ${truncate(printable(peer), PEER_COLUMNS_MAX)}`;
}

/**
 * "search: 32 calls on the GPU NVIDIA H200 took 1.2s, 1.4s expected: …", behind "kernel": what computed a kernel, and why. One without a
 * name of its own is called "kernel 2".
 */
export function formatKernel(report: KernelReport): string {
  const { kernel, engine, engineClass, label = engineClass, calls, measuredMs, predictedMs, reason } = report;
  const where = engine === "gpu" ? `the GPU ${printable(label)}` : "CPUs";
  const name = printable(kernel).replace(/^kernel (?=\d+$)/, "");
  const expected = predictedMs === undefined ? "" : `, ${formatDuration(predictedMs)} expected`;
  const took = `${plural(calls, "call")} on ${where} took ${formatDuration(measuredMs)}${expected}`;
  return `${name}: ${took}: ${printable(reason)}`;
}

/** "2026-11-20 10:14", local time. */
export function formatTime(millisecondsSince1970: number): string {
  return dateOf(millisecondsSince1970).toLocaleString("sv-SE", { dateStyle: "short", timeStyle: "short" });
}

/** "2026-11-20T10:14:05.123Z". */
export function isoTime(millisecondsSince1970: number): string {
  return dateOf(millisecondsSince1970).toISOString();
}

const DATE_MS_MAX = 8_640_000_000_000_000;

/** The nearest time that has a date: another machine's clock, or what a file says, may be anything. */
function dateOf(millisecondsSince1970: number): Date {
  return new Date(Math.min(Math.max(millisecondsSince1970, -DATE_MS_MAX), DATE_MS_MAX));
}

/** Bytes as people write them: "65536", "64KiB", "1.5 MB". Undefined for what is no number of bytes, or none at all. */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(?: ?([a-z]+))?$/i.exec(text);
  const factor = match === null ? undefined : SUFFIXES[match[2]?.toLowerCase() ?? ""];
  if (factor === undefined || (factor === 1 && match![1]!.includes("."))) return undefined;
  const bytes = Math.round(Number(match![1]) * factor);
  return Number.isSafeInteger(bytes) && bytes > 0 ? bytes : undefined;
}

/** Text from names, programs and other machines, made harmless for a terminal: control characters become the escapes of JSON. */
export function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g, (character) => {
    if (character < " ") return JSON.stringify(character).slice(1, -1);
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

/**
 * An error's message as lines for a terminal: its sentence, in which line ends are escaped so that nobody else's text looks
 * like a line of ours, and those of the stack that it ends with.
 */
export function errorLines(message: string): string[] {
  const { sentence, stack } = splitStack(message);
  return [sentence, ...stack].map(printable);
}

/**
 * A value of a program as Node would show it: `NaN`, `-0`, `123n`, `Map(1) { 'a' => [ 1, 2 ] }`, whole, and in lines of
 * `width` columns where it has parts that can be broken, otherwise in one line.
 */
export function formatValue(value: unknown, width?: number): string {
  const text = inspect(value, {
    depth: Number.POSITIVE_INFINITY,
    maxArrayLength: Number.POSITIVE_INFINITY,
    maxStringLength: Number.POSITIVE_INFINITY,
    customInspect: false,
    ...(width === undefined
      ? { breakLength: Number.POSITIVE_INFINITY, compact: true }
      : { breakLength: width }),
  });
  return width === undefined ? printable(text) : text.split("\n").map(printable).join("\n");
}

/** How many columns of a terminal the text takes. */
export function displayWidth(text: string): number {
  // What tells wide letters is compiled when it is first used, which takes longer than most commands print.
  return /^[ -~]*$/.test(text) ? text.length : measure(text).width;
}

/** The text cut to `width` columns of a terminal, with an ellipsis where something is missing. */
export function truncate(text: string, width: number): string {
  const { index, truncated } = measure(text, { limit: width, ellipsis: "…" });
  return truncated ? `${text.slice(0, index)}…` : text;
}

/**
 * The text in lines of at most `width` columns, which break between words and begin with `indent` from the second on. A word that
 * is wider than a line stays whole, for it may be a token or a path to be copied.
 */
export function wrapWords(text: string, width: number, indent = ""): string {
  const room = width - displayWidth(indent);
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    const longer = line === "" ? word : `${line} ${word}`;
    if (line !== "" && displayWidth(longer) > (lines.length === 0 ? width : room)) {
      lines.push(line);
      line = word;
    } else line = longer;
  }
  return [...lines, line].join(`\n${indent}`);
}

/** The text in lines of which none is wider than `width` columns: a longer word, mostly a path, breaks behind a slash if it has one. */
export function wrapAll(text: string, width: number): string[] {
  return wrapWords(text, width)
    .split("\n")
    .flatMap((line) => pathLines(line, width));
}

function pathLines(line: string, width: number): string[] {
  const lines: string[] = [];
  let rest = line;
  while (displayWidth(rest) > width) {
    const head = Array.from(rest).slice(0, width).join("");
    const slash = head.lastIndexOf("/");
    const end = slash > 0 ? slash + 1 : head.length;
    lines.push(rest.slice(0, end));
    rest = rest.slice(end);
  }
  return [...lines, rest];
}

/** The text and spaces up to `width` columns of a terminal. */
export function pad(text: string, width: number, align: "left" | "right" = "left"): string {
  const spaces = " ".repeat(Math.max(0, width - displayWidth(text)));
  return align === "left" ? text + spaces : spaces + text;
}

/** Titles and what they say on lines of their own, for what has no room in a row. */
export function formatCard(rows: readonly (readonly [title: string, text: string])[]): string {
  const width = Math.max(...rows.map(([title]) => displayWidth(title))) + 2;
  return rows.map(([title, text]) => pad(title, width) + text).join("\n");
}

/** "NVIDIA H200: 139 GB of memory, 9 GB/s there and 7 GB/s back, 38µs for a call, 4,600 Gop/s". */
export function describeAccelerator({ label, memoryBytes, calibration }: AcceleratorInfo): string {
  const { uploadGBps, downloadGBps, launchMs, gops } = calibration;
  const rate = (gbps: number): string => `${formatBytes(gbps * 1e9)}/s`;
  const launch = launchMs < 1 ? `${Math.round(launchMs * 1000)}µs` : formatDuration(launchMs);
  return `${printable(label)}: ${formatBytes(memoryBytes)} of memory, ${rate(uploadGBps)} there and ${rate(downloadGBps)} back, ${launch} for a call, ${formatCount(Math.round(gops))} Gop/s`;
}

/** "no GPU is used: the Vulkan loader is missing: install libvulkan1". */
export function describeUnused({ label, reason }: UnusedAccelerator): string {
  return `${label === "GPU" ? "no GPU is used" : `${printable(label)} is not used`}: ${printable(reason)}`;
}
