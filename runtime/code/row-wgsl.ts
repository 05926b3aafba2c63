/**
 * Packet code over rows of integers in WGSL: what a thread does with a row, and what comes of all threads of a workgroup. What a
 * program looks for are fields of `dims`, so the text depends on nothing but the shapes of rows, filter and aggregate.
 */
import { ColumnType, valueBytes, wideTypeOf } from "../../packets/code/column-type.ts";
import { Aggregate, Filter } from "../../packets/code/format.ts";
import type { Code } from "../../packets/code/format.ts";
import { HISTOGRAM_BINS } from "../../packets/code/state.ts";

/** Of a workgroup. Each looks after one bin of a histogram at the end. */
export const ROW_THREADS: number = HISTOGRAM_BINS;
export const WORD_BYTES = 4;
/** Histograms of a workgroup, so that threads which meet the same value at once do not wait for one another; and where they begin. */
const BIN_COPIES = 8;
/** Words from one to the next: the same bins of two stand in different banks of memory. */
const BIN_STRIDE: number = HISTOGRAM_BINS + 1;

/** Words that a workgroup leaves: how many rows passed, and what comes of their values. */
export function partialWords(code: Code): number {
  return 1 + (isSum(code) ? 2 : 1) * threadWords(code);
}

/** Words that a thread has of the values: 16-bit parts of a sum, or a value. */
export function threadWords(code: Code): number {
  if (code.type === 0) return 0;
  return Math.ceil(valueBytes(code.type) / (isSum(code) ? 2 : WORD_BYTES));
}

export function hasBins({ aggregate }: Code): boolean {
  return aggregate === Aggregate.HISTOGRAM;
}

export function isSum({ aggregate }: Code): boolean {
  return aggregate === Aggregate.SUM || aggregate === Aggregate.MEAN;
}

export function isSigned(type: ColumnType): boolean {
  return wideTypeOf(type) === ColumnType.i64;
}

export function rowSource(code: Code): string {
  const memory = hasBins(code)
    ? `var<workgroup> counts: array<atomic<u32>, ${BIN_STRIDE * BIN_COPIES}>;`
    : `var<workgroup> sums: array<atomic<u32>, ${partialWords(code)}>;`;
  return `${memory}

// The four bytes from \`at\` on; what is behind the data is not to be looked at.
fn word_at(at: u32) -> u32 {
  let low = data[at >> 2u];
  let shift = (at & 3u) * 8u;
  if (shift == 0u) {
    return low;
  }
  return (low >> shift) | (data[(at >> 2u) + 1u] << (32u - shift));
}

fn less_or_same(a: vec2<u32>, b: vec2<u32>) -> bool {
  return a.y < b.y || (a.y == b.y && a.x <= b.x);
}

fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first = group.x * ${ROW_THREADS}u + local;
  let stride = dims.groups * ${ROW_THREADS}u;
${hasBins(code) ? "" : threadVariables(code)}${code.rowBytes === 1 ? byteLoop(code) : rowLoop(code)}
${hasBins(code) ? HISTOGRAM_END : workgroupEnd(code)}
}
`;
}

function threadVariables(code: Code): string {
  const names = ["count", ...Array.from({ length: threadWords(code) }, (_, index) => `value_${index}`)];
  return names.map((name) => `  var ${name} = 0u;\n`).join("");
}

/** Four rows of a byte a turn. */
function byteLoop(code: Code): string {
  return `  for (var index = first; index * 4u < dims.rows; index += stride) {
    let word = data[index];
    for (var byte = 0u; byte < 4u; byte++) {
      let row = index * 4u + byte;
      if (row >= dims.rows) {
        break;
      }
${takeRow(code)}
    }
  }`;
}

function rowLoop(code: Code): string {
  return `  for (var row = first; row < dims.rows; row += stride) {
    {
${takeRow(code)}
    }
  }`;
}

function takeRow(code: Code): string {
  const lines = [
    ...filterLines(code),
    `if (${code.isNot ? "!" : ""}passes) {`,
    ...addLines(code).map((line) => `  ${line}`),
    "}",
  ];
  return lines.map((line) => `      ${line}`).join("\n");
}

/** Says whether the row passes, but for a NOT. */
function filterLines(code: Code): string[] {
  const { filter, filterType, filterOffset, ranges, needle, rowBytes } = code;
  if (filter === Filter.ALL) return ["let passes = true;"];
  if (filter === Filter.AT) {
    const at = `row * ${rowBytes}u + ${filterOffset}u`;
    const words = Math.ceil(needle.byteLength / WORD_BYTES);
    const equal = Array.from({ length: words }, (_, index) => {
      const left = needle.byteLength - index * WORD_BYTES;
      const difference = `(word_at(${at} + ${index * WORD_BYTES}u) ^ dims.needle_${index})`;
      return left >= WORD_BYTES ? `${difference} == 0u` : `(${difference} & ${maskOf(left)}) == 0u`;
    });
    // Behind the end of the file stands nothing, and so nothing that is looked for.
    return [`let passes = ${at} + ${needle.byteLength}u <= dims.bytes && ${equal.join(" && ")};`];
  }
  const type = filterType as ColumnType;
  const [low, high] = keyWords(code, type, filterOffset);
  if (high === undefined) {
    const within = ranges.map((_, index) => `(key >= dims.low_${index} && key <= dims.high_${index})`);
    return [`let key = ${low};`, `let passes = ${within.join(" || ")};`];
  }
  const end = (name: string): string => `vec2<u32>(dims.${name}, dims.${name}_high)`;
  const within = ranges.map(
    (_, index) => `(less_or_same(${end(`low_${index}`)}, key) && less_or_same(key, ${end(`high_${index}`)}))`,
  );
  return [`let key = vec2<u32>(${low}, ${high});`, `let passes = ${within.join(" || ")};`];
}

/** Adds a row that passes to what the thread has. */
function addLines(code: Code): string[] {
  const { aggregate, type, offset } = code;
  if (type === 0) return ["count++;"];
  const isXor = aggregate === Aggregate.XOR;
  const words = isXor ? rawWords(code, type, offset) : keyWords(code, type, offset);
  if (hasBins(code))
    return [`atomicAdd(&counts[(local % ${BIN_COPIES}u) * ${BIN_STRIDE}u + ${words[0]}], 1u);`];
  if (isXor) return ["count++;", ...words.map((word, index) => `value_${index} ^= ${word};`)];
  if (isSum(code)) {
    const isShort = valueBytes(type) <= 2;
    const parts = isShort ? words : words.flatMap((word) => [`(${word}) & 0xffffu`, `(${word}) >> 16u`]);
    return ["count++;", ...parts.map((part, index) => `value_${index} += ${part};`)];
  }
  // The largest key, or the largest of what is largest where keys are smallest.
  const mask = maskOf(Math.min(WORD_BYTES, valueBytes(type)));
  const keys = aggregate === Aggregate.MIN ? words.map((word) => `(${word}) ^ ${mask}`) : words;
  const [low, high] = keys;
  if (high === undefined) return ["count++;", `value_0 = max(value_0, ${low});`];
  return [
    "count++;",
    `let found = vec2<u32>(${low}, ${high});`,
    "if (less_or_same(vec2<u32>(value_0, value_1), found)) {",
    "  value_0 = found.x;",
    "  value_1 = found.y;",
    "}",
  ];
}

/** The bits of a value of the row, as 32 bits or, low ones first, twice as many. */
function rawWords(code: Code, type: ColumnType, offset: number): string[] {
  const bytes = valueBytes(type);
  if (bytes === 8) return [wordOf(code, offset, 4), wordOf(code, offset + 4, 4)];
  return [wordOf(code, offset, bytes)];
}

/** The same, as keys: the highest bit of signed values is turned over. */
function keyWords(code: Code, type: ColumnType, offset: number): string[] {
  const words = rawWords(code, type, offset);
  if (!isSigned(type)) return words;
  const highest = 2 ** (8 * Math.min(WORD_BYTES, valueBytes(type)) - 1);
  return [...words.slice(0, -1), `(${words.at(-1)}) ^ ${highest}u`];
}

/** One to four bytes at `offset` of the row. */
function wordOf({ rowBytes }: Code, offset: number, bytes: number): string {
  if (rowBytes === 1) return "((word >> (8u * byte)) & 0xffu)";
  const masked = (word: string): string =>
    bytes === WORD_BYTES ? `(${word})` : `((${word}) & ${maskOf(bytes)})`;
  if (rowBytes % WORD_BYTES !== 0) return masked(`word_at(row * ${rowBytes}u + ${offset}u)`);
  const index = `row * ${rowBytes / WORD_BYTES}u + ${offset >> 2}u`;
  const shift = (offset % WORD_BYTES) * 8;
  const low = shift === 0 ? `data[${index}]` : `data[${index}] >> ${shift}u`;
  if (shift + 8 * bytes <= 32) return masked(low);
  return masked(`(${low}) | (data[${index} + 1u] << ${32 - shift}u)`);
}

function maskOf(bytes: number): string {
  return `0x${(2 ** (8 * bytes) - 1).toString(16)}u`;
}

const HISTOGRAM_END = `  workgroupBarrier();
  var sum = 0u;
  for (var copy = 0u; copy < ${BIN_COPIES}u; copy++) {
    sum += atomicLoad(&counts[copy * ${BIN_STRIDE}u + local]);
  }
  if (sum > 0u) {
    atomicAdd(&bins[local], sum);
  }`;

/** What the threads have, together, to where partials are. */
function workgroupEnd(code: Code): string {
  const words = threadWords(code);
  const lines = ["atomicAdd(&sums[0], count);"];
  if (isSum(code)) {
    for (let part = 0; part < words; part++) {
      lines.push(`atomicAdd(&sums[${1 + 2 * part}], value_${part} & 0xffffu);`);
      lines.push(`atomicAdd(&sums[${2 + 2 * part}], value_${part} >> 16u);`);
    }
  } else if (code.aggregate === Aggregate.XOR) {
    for (let word = 0; word < words; word++) lines.push(`atomicXor(&sums[${1 + word}], value_${word});`);
  } else if (words === 1) {
    lines.push("atomicMax(&sums[1], value_0);");
  } else if (words === 2) {
    lines.push(
      "atomicMax(&sums[2], value_1);",
      "workgroupBarrier();",
      "if (value_1 == atomicLoad(&sums[2])) {",
      "  atomicMax(&sums[1], value_0);",
      "}",
    );
  }
  const size = partialWords(code);
  lines.push(
    "workgroupBarrier();",
    `if (local < ${size}u) {`,
    `  partials[group.x * ${size}u + local] = atomicLoad(&sums[local]);`,
    "}",
  );
  return lines.map((line) => `  ${line}`).join("\n");
}
