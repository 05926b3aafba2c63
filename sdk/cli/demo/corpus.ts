/** Real input that is there wherever PacketFS is: the text that the packages installed with it bring, as one file. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { findPackageJSON } from "node:module";
import { dirname, join } from "node:path";
import { setImmediate } from "node:timers/promises";

const CORPUS_BYTES_MAX: number = 32 * 1024 * 1024;
const TEXT = /\.(?:[cm]?[jt]s|h|cc|md)$/;
/** Minified files are not what anybody would count words in. */
const LINE_BYTES_MAX: number = 32 * 1024;
const NEWLINE = 10;

export interface Corpus {
  readonly bytes: Uint8Array;
  readonly files: number;
}

/** The text files of all installed packages, in the order of their paths, up to 32 MiB. */
export function readCorpus(): Corpus {
  const parts: Uint8Array[] = [];
  let length = 0;
  for (const path of textFiles(packagesFolder())) {
    const text = readFileSync(path);
    if (hasLongLine(text)) continue;
    if (length + text.byteLength > CORPUS_BYTES_MAX) break;
    parts.push(text);
    length += text.byteLength;
  }
  return { bytes: new Uint8Array(Buffer.concat(parts, length)), files: parts.length };
}

/** The folder in which npm has put what PacketFS uses: its own, or that of the project it is installed in. */
function packagesFolder(): string {
  const manifest = findPackageJSON("isolated-vm", import.meta.url)!;
  return dirname(dirname(manifest));
}

function* textFiles(directory: string): Generator<string> {
  const entries = readdirSync(directory, { withFileTypes: true });
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(directory, entry.name);
    if (entry.isDirectory() && !entry.name.startsWith(".")) yield* textFiles(path);
    else if (entry.isFile() && TEXT.test(entry.name)) yield path;
  }
}

function hasLongLine(text: Buffer): boolean {
  for (let start = 0; start < text.length;) {
    const end = text.indexOf(NEWLINE, start);
    if ((end === -1 ? text.length : end) - start > LINE_BYTES_MAX) return true;
    if (end === -1) return false;
    start = end + 1;
  }
  return false;
}

/** The corpus with a sentence put in here and there, as an editor would leave it. */
export function editCorpus(bytes: Uint8Array): Uint8Array {
  const sentence = Buffer.from("This sentence was not here before.\n");
  const places = [0.1, 0.5, 0.9].map((share) => Math.floor(bytes.byteLength * share));
  const parts = places.flatMap((place, index) => [bytes.subarray(places[index - 1] ?? 0, place), sentence]);
  return new Uint8Array(Buffer.concat([...parts, bytes.subarray(places.at(-1))]));
}

/** Counting goes on for so many bytes before other things, such as heartbeats, get their turn. */
const TURN_BYTES: number = 1024 * 1024;

/** The plain way: one thread, no PacketFS. Words are what stands between bytes up to 32. */
export async function countWordsPlainly(bytes: Uint8Array): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  // Latin-1 keeps each byte apart, and decoding it costs nothing; words become UTF-8 once they are counted.
  const byLatin1 = new Map<string, number>();
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let turnEnds = TURN_BYTES;
  for (let at = 0; at < text.length;) {
    while (at < text.length && text[at]! <= 32) at++;
    const start = at;
    while (at < text.length && text[at]! > 32) at++;
    if (at > start) {
      const word = text.toString("latin1", start, at);
      byLatin1.set(word, (byLatin1.get(word) ?? 0) + 1);
    }
    if (at < turnEnds) continue;
    await setImmediate();
    turnEnds = at + TURN_BYTES;
  }
  for (const [latin1, count] of byLatin1) {
    const word = Buffer.from(latin1, "latin1").toString();
    counts.set(word, (counts.get(word) ?? 0) + count);
  }
  return counts;
}

export function sha256Hex(parts: Iterable<Uint8Array>): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
}
