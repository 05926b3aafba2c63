/** How much memory a GPU has: WebGPU does not tell, so that whoever drives it is asked. */
import { execFile } from "node:child_process";
import { readFile, readdir } from "node:fs/promises";
import { totalmem } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { GPU_MEMORY_SHARE, GPU_MEMORY_TOOL_MS, GPU_MEMORY_UNKNOWN_BYTES } from "../limits.ts";
import type { ReadyMessage } from "./protocol.ts";

const run = promisify(execFile);
const CARDS = "/sys/class/drm";
/** Of the machine's own memory, where a CPU imitates a GPU. */
const SOFTWARE_SHARE = 1 / 8;

/** What is used of it at most, in bytes. `name` is what its driver calls it. */
export async function memoryOf(
  { vendor, isSoftware }: ReadyMessage["adapter"],
  name: string,
): Promise<number> {
  if (isSoftware) return Math.min(GPU_MEMORY_UNKNOWN_BYTES, Math.floor(totalmem() * SOFTWARE_SHARE));
  const total = /nvidia/i.test(vendor) ? await ofNvidia(name) : await ofAmd();
  return total === undefined ? GPU_MEMORY_UNKNOWN_BYTES : Math.floor(total * GPU_MEMORY_SHARE);
}

/** The least that one of this name has, or that one of all has where none is called so. */
async function ofNvidia(name: string): Promise<number | undefined> {
  try {
    const words = ["--query-gpu=memory.total,name", "--format=csv,noheader,nounits"];
    const { stdout } = await run("nvidia-smi", words, { timeout: GPU_MEMORY_TOOL_MS, windowsHide: true });
    const cards = Array.from(stdout.matchAll(/^ *(\d+), *(.*?)\r?$/gm), ([, mebibytes, called]) => ({
      bytes: Number(mebibytes) * 1024 * 1024,
      called,
    }));
    const own = cards.filter(({ called }) => called === name);
    return leastOf((own.length > 0 ? own : cards).map(({ bytes }) => bytes));
  } catch {
    return undefined;
  }
}

async function ofAmd(): Promise<number | undefined> {
  const cards = await readdir(CARDS).catch(() => []);
  const totals = await Promise.all(
    cards.map((card) => readFile(join(CARDS, card, "device/mem_info_vram_total"), "latin1").catch(() => "")),
  );
  return leastOf(totals.map(Number));
}

function leastOf(totals: readonly number[]): number | undefined {
  const known = totals.filter((total) => total > 0);
  return known.length === 0 ? undefined : Math.min(...known);
}
