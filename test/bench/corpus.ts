/** What the rows work on: bytes that are the same on every run. */
import { createCipheriv } from "node:crypto";
import { closeSync, existsSync, openSync, renameSync, statfsSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";

const BLOCK_BYTES: number = 1024 * 1024;

/** A folder on tmpfs when there is room, so that the disk is not what is measured. */
export function benchDirectory(bytesNeeded: number): string {
  const shared = "/dev/shm";
  if (!existsSync(shared)) return tmpdir();
  const { bavail, bsize } = statfsSync(shared);
  return bavail * bsize > 2 * bytesNeeded ? shared : tmpdir();
}

/** Random bytes (AES-CTR of zeros under a fixed key). */
export function writeRandom(path: string, bytes: number): void {
  const cipher = createCipheriv("aes-128-ctr", Buffer.alloc(16, 7), Buffer.alloc(16));
  const zeros = Buffer.alloc(BLOCK_BYTES);
  writeWhole(path, bytes, () => cipher.update(zeros));
}

const WORDS = 20_000;
const LINE_CHARACTERS = 75;

/** Lines of words whose frequencies follow Zipf's law. */
export function writeText(path: string, bytes: number): void {
  let state = 7;
  const random = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
  const letter = (): string => String.fromCharCode(97 + Math.floor(random() * 26));
  const words = Array.from({ length: WORDS }, () =>
    Array.from({ length: 2 + Math.floor(random() * 8) }, letter).join(""),
  );
  const block = (): Buffer => {
    const lines: string[] = [];
    for (let size = 0; size < BLOCK_BYTES;) {
      let line = "";
      // The rank's logarithm is uniform, so a rank's frequency is one over it.
      while (line.length < LINE_CHARACTERS) line += `${words[Math.floor(WORDS ** random())]!} `;
      lines.push(line);
      size += line.length + 1;
    }
    return Buffer.from(`${lines.join("\n")}\n`);
  };
  const blocks = Array.from({ length: 8 }, block);
  let next = 0;
  writeWhole(path, bytes, () => blocks[next++ % blocks.length]!);
}

function writeWhole(path: string, bytes: number, next: () => Buffer): void {
  const partial = `${path}.part`;
  const file = openSync(partial, "w");
  for (let written = 0; written < bytes;) {
    const block = next().subarray(0, bytes - written);
    written += writeSync(file, block);
  }
  closeSync(file);
  renameSync(partial, path);
}
