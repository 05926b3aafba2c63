/** What the examples work on: each in a size that takes a GPU some time, and in a small one, with what their answers are compared by. */
import { closeSync, openSync, writeSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { inflateSync } from "node:zlib";
import { messageOf } from "../../../packets/errors.ts";

const EXAMPLES = new URL("../../../examples/kernels/", import.meta.url);
const MEBIBYTE: number = 1024 * 1024;

export interface File {
  readonly name: string;
  readonly bytes: number;
  write(path: string): void;
}

/** One run of an example. */
export interface Work {
  /** How much, for people. */
  readonly label: string;
  readonly input: File;
  /** By the names that the program has for them. */
  readonly files: Readonly<Record<string, File>>;
  /** Of all calls together. */
  readonly operations: number;
  /** Bytes that its kernel reads and gives, all of them. */
  readonly bytes: number;
  /** One call of its kernel over all of it, or over its first frame. */
  readonly call: WorkCall;
}

export interface WorkCall {
  readonly dimensions: Readonly<Record<string, number>>;
  /** Files of the work, each from its first byte to `length`, and numbers. */
  readonly inputs: readonly (CallFile | Float32Array | Uint32Array)[];
  readonly operations: number;
}

export interface CallFile {
  readonly file: File;
  readonly length: number;
}

export interface Workload {
  readonly name: string;
  /** Its path. */
  readonly program: string;
  /** Whether a CPU computes its kernel without a function of its own: GPU.js does. */
  readonly isJavaScript: boolean;
  readonly small: Work;
  readonly large: Work;
  /** How far two answers, as JSON or as bytes, are apart: 0 where they are the same. */
  readonly difference: (a: Answer, b: Answer) => number;
  readonly differenceMax: number;
}

export interface Answer {
  readonly value: unknown;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Each in turn. What fails is said among what is `wrong`, and the others go on: a GPU is not at hand every day. */
export async function inTurn(
  section: string,
  all: readonly Workload[],
  wrong: string[],
  run: (workload: Workload) => Promise<void>,
): Promise<void> {
  for (const workload of all) {
    process.stderr.write(`${section}: ${workload.name} …\n`);
    try {
      await run(workload);
    } catch (error) {
      wrong.push(`${section}: ${workload.name}: ${messageOf(error)}`);
    }
  }
}

/** Parts of the sizes that the goals are about: 1 is all of it. */
export function workloads(part: number): readonly Workload[] {
  const rows = Math.max(2048, 1024 * Math.round(1024 * part));
  const queries = part < 1 / 16 ? 8 : 64;
  const product = Math.max(64, 64 * Math.round(64 * part));
  const frameRows = part < 1 / 16 ? Math.max(64, Math.round(17_280 * part)) : 1080 * Math.round(16 * part);
  const height = Math.max(90, Math.round(1080 * Math.sqrt(part)));
  const steps = Math.max(100, Math.round(2000 * Math.sqrt(part)));
  const bytes = Math.max(4, Math.round(256 * part)) * MEBIBYTE;
  return [
    {
      ...named("search"),
      small: search(2048, 8),
      large: search(rows, queries),
      difference: ({ value: a }, { value: b }) => matchDifference(a as Matches, b as Matches),
      differenceMax: 1e-4,
    },
    {
      ...named("matmul"),
      small: multiply(64, 64),
      large: multiply(product, product),
      difference: floatDifference,
      differenceMax: 1e-5,
    },
    {
      ...named("convolution"),
      isJavaScript: true,
      small: convolve(64),
      large: convolve(frameRows),
      difference: floatDifference,
      differenceMax: 1e-5,
    },
    {
      ...named("mandelbrot"),
      isJavaScript: true,
      small: draw(90, 100),
      large: draw(height, steps),
      // Where points nearly stay, the last bit of one step decides.
      difference: pictureDifference,
      differenceMax: 0.01,
    },
    {
      ...named("histogram"),
      small: count(4 * MEBIBYTE),
      large: count(bytes),
      difference: ({ value: a }, { value: b }) => (JSON.stringify(a) === JSON.stringify(b) ? 0 : 1),
      differenceMax: 0,
    },
  ];
}

function named(name: string): Pick<Workload, "name" | "program" | "isJavaScript"> {
  return { name, program: fileURLToPath(new URL(`${name}.ts`, EXAMPLES)), isJavaScript: false };
}

function search(rows: number, queries: number): Work {
  const vectors = randomFloats("vectors.f32", rows * 256, 1);
  const asked = randomFloats("queries.f32", queries * 256, 2);
  return {
    label: `${rows.toLocaleString("en")} × 256 floats, ${queries} queries`,
    input: vectors,
    files: { queries: asked },
    operations: 2 * rows * queries * 256,
    bytes: vectors.bytes + asked.bytes,
    call: {
      dimensions: { n: rows, q: queries, blocks: Math.ceil(rows / 1024) },
      inputs: [whole(vectors), whole(asked)],
      operations: 2 * rows * queries * 256,
    },
  };
}

/** A has as many rows as b has columns, and 4,096 columns. */
function multiply(m: number, n: number): Work {
  const [a, b] = [randomFloats("a.f32", m * 4096, 3), randomFloats("b.f32", 4096 * n, 4)];
  return {
    label: `${m} × 4096 by 4096 × ${n}`,
    input: a,
    files: { b },
    operations: 2 * m * n * 4096,
    bytes: a.bytes + b.bytes + 4 * m * n,
    call: {
      dimensions: { m, k: 4096, n },
      inputs: [whole(a), whole(b)],
      operations: 2 * m * n * 4096,
    },
  };
}

/** Frames of 1080 rows, the last one with what is left. */
function convolve(rows: number): Work {
  const points = rows * 1920;
  const height = Math.min(1080, rows);
  const input = randomFloats("frames.f32", points, 5);
  return {
    label: `${rows === height ? "" : `${rows / height} × `}1920 × ${height} floats by 15 × 15`,
    input,
    files: {},
    operations: 2 * points * 15 * 15,
    bytes: 2 * input.bytes,
    call: {
      dimensions: { height, width: 1920 },
      inputs: [{ file: input, length: height * 1920 * 4 }, new Float32Array(15 * 15).fill(1 / 225)],
      operations: 2 * height * 1920 * 15 * 15,
    },
  };
}

function draw(height: number, steps: number): Work {
  const width = Math.round((height * 16) / 9);
  const view = { x: -0.65, y: 0, scale: 2.4, width, height, steps };
  const text = `${JSON.stringify(view)}\n`;
  // About a quarter of the points of this view stay, and a step is ten operations.
  const operations = 10 * steps * width * height * 0.25;
  return {
    label: `${width} × ${height}, ${steps} steps at most`,
    input: { name: "view.json", bytes: text.length, write: (path) => writeWhole(path, [Buffer.from(text)]) },
    files: {},
    operations,
    bytes: 4 * width * height,
    call: {
      dimensions: { width, height },
      inputs: [
        Float32Array.of(-0.65 - (width / 2) * (2.4 / height)),
        Float32Array.of(1.2),
        Float32Array.of(2.4 / height),
        Uint32Array.of(steps),
      ],
      operations,
    },
  };
}

function count(bytes: number): Work {
  const input = { name: "bytes", bytes, write: (path: string) => writeWhole(path, noise(bytes, 6)) };
  return {
    label: `${bytes / MEBIBYTE} MiB`,
    input,
    files: {},
    operations: 2 * bytes,
    bytes,
    call: { dimensions: { n: bytes }, inputs: [whole(input)], operations: 2 * bytes },
  };
}

function whole(file: File): CallFile {
  return { file, length: file.bytes };
}

/** Floats between -1 and 1, but for those near 0, the same on every run. */
export function randomFloats(name: string, length: number, seed: number): File {
  return {
    name,
    bytes: length * 4,
    write(path) {
      writeWhole(path, asFloats(noise(length * 4, seed)));
    },
  };
}

/** Pieces of random bytes (xorshift32). */
function* noise(bytes: number, seed: number): Generator<Uint8Array> {
  let state = seed;
  for (let left = bytes; left > 0;) {
    const words = new Uint32Array(Math.ceil(Math.min(left, MEBIBYTE) / 4));
    for (let at = 0; at < words.length; at++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      words[at] = state;
    }
    const piece = new Uint8Array(words.buffer, 0, Math.min(left, words.byteLength));
    left -= piece.length;
    yield piece;
  }
}

/** Random bits as floats: any sign and fraction, and the exponent of 0.5. */
function* asFloats(pieces: Iterable<Uint8Array>): Generator<Uint8Array> {
  for (const piece of pieces) {
    const words = new Uint32Array(piece.buffer, piece.byteOffset, piece.length / 4);
    for (let at = 0; at < words.length; at++) words[at] = (words[at]! & 0x807fffff) | 0x3f000000;
    yield piece;
  }
}

function writeWhole(path: string, pieces: Iterable<Uint8Array>): void {
  const file = openSync(path, "w");
  try {
    for (const piece of pieces) for (let at = 0; at < piece.length;) at += writeSync(file, piece, at);
  } finally {
    closeSync(file);
  }
}

type Matches = readonly (readonly { readonly row: number; readonly score: number }[])[];

/** Of scores that are this near, either may stand in front. */
function matchDifference(a: Matches, b: Matches): number {
  if (a.length !== b.length) return Infinity;
  let most = 0;
  for (const [query, matches] of a.entries()) {
    if (matches.length !== b[query]!.length) return Infinity;
    for (const [place, { row, score }] of matches.entries()) {
      const other = b[query]![place]!;
      const near = Math.abs(score - other.score) / Math.max(1, Math.abs(score));
      most = Math.max(most, near, row === other.row ? 0 : near);
    }
  }
  return most;
}

function floatDifference({ bytes: a }: Answer, { bytes: b }: Answer): number {
  return floatsApart(a, b);
}

/** How far floats are apart: relative, of all of them together. */
export function floatsApart(a: Uint8Array<ArrayBuffer>, b: Uint8Array<ArrayBuffer>): number {
  if (a.length !== b.length) return Infinity;
  const [x, y] = [new Float32Array(a.buffer), new Float32Array(b.buffer)];
  let [apart, all] = [0, 0];
  for (let at = 0; at < x.length; at++) {
    apart += (x[at]! - y[at]!) ** 2;
    all += x[at]! ** 2;
  }
  return Math.sqrt(apart / all);
}

/** The share of points that look different. */
function pictureDifference(a: Answer, b: Answer): number {
  const [x, y] = [pointsOf(a.bytes), pointsOf(b.bytes)];
  if (x.length !== y.length) return Infinity;
  let differing = 0;
  for (let at = 0; at < x.length; at++) if (Math.abs(x[at]! - y[at]!) > 1) differing++;
  return differing / x.length;
}

/** Of a PNG with one IDAT, which is how the example writes it: in front of it are 8 + 25 bytes. */
function pointsOf(png: Uint8Array<ArrayBuffer>): Uint8Array {
  const length = new DataView(png.buffer).getUint32(33);
  return inflateSync(png.subarray(41, 41 + length));
}
