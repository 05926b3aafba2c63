/**
 * The way out for a kernel's outputs: a file on tmpfs that has no name, which the GPU process inherits and writes to, slot by
 * slot, and the node reads. A GPU process opens no file of anybody's to write to.
 */
import { randomUUID } from "node:crypto";
import { closeSync, ftruncateSync, openSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GPU_WINDOW_SLOTS, GPU_WINDOW_SLOT_BYTES } from "../limits.ts";

/** A descriptor of both sides'; undefined where the system has no such thing, and bytes go through the pipe. To be closed. */
export function openWindow(): number | undefined {
  if (process.platform === "win32") return undefined;
  for (const folder of ["/dev/shm", tmpdir()]) {
    const path = join(folder, `packetfs-gpu-${randomUUID()}`);
    try {
      const descriptor = openSync(path, "wx+", 0o600);
      try {
        unlinkSync(path);
        ftruncateSync(descriptor, GPU_WINDOW_SLOTS * GPU_WINDOW_SLOT_BYTES);
        return descriptor;
      } catch {
        closeSync(descriptor);
      }
    } catch {
      // The disk's page cache is the next best.
    }
  }
  return undefined;
}

/** Whether these bytes stand in one slot, from its beginning. */
export function isInWindow(at: number, bytes: number): boolean {
  const slot = at / GPU_WINDOW_SLOT_BYTES;
  return Number.isInteger(slot) && slot < GPU_WINDOW_SLOTS && bytes <= GPU_WINDOW_SLOT_BYTES;
}
