/** What pfs doctor finds of the store of this machine: whether it is one, who may read it, whether what it knows of is there. */
import { access, constants, mkdtemp, rmdir, stat, statfs } from "node:fs/promises";
import { platform } from "node:os";
import { dirname, join, resolve } from "node:path";
import { errorToJson, hasCode, messageOf } from "../../../packets/errors.ts";
import type { PacketFS } from "../../packetfs.ts";
import type { Store } from "../../../runtime/store/store.ts";
import { StoreErrorCode } from "../../../runtime/errors.ts";
import { fileError, systemCode, systemError } from "../../errors.ts";
import { formatBytes, plural } from "../format.ts";
import { failure, ok, warning } from "./check.ts";
import type { Check } from "./check.ts";

const DISK_BYTES_LEAST = 1024 ** 3;

/** Of the directory that commands use here; `place` says which that is and why. */
export async function storeChecks(directory: string, place: string): Promise<Check[]> {
  const { Store } = await import("../../../runtime/store/store.ts");
  try {
    if (!Store.isIn(directory)) return [await placeCheck(directory, place)];
  } catch (error) {
    return [failure("store", "directory", place, adviceOn(error))];
  }
  const checks: Check[] = [await directoryCheck(directory, place), await diskCheck(directory)];
  try {
    const { openLocal } = await import("../../local.ts");
    const notes = new Set<string>();
    await using pfs = await openLocal(directory, { onRepair: ({ text }) => notes.add(text) });
    await using store = await Store.open(directory, { readOnly: true });
    checks.push(ok("store", "content", await contentOf(pfs)), ...segmentChecks(store));
    for (const note of notes) checks.push(repairCheck(note));
  } catch (error) {
    checks.push(failure("store", "content", "cannot be read", adviceOn(error)));
  }
  return checks;
}

/** What is wrong, in its own words, and what to do. */
function adviceOn(error: unknown): string {
  const message = messageOf(systemError(error));
  return hasCode(error, StoreErrorCode.unreadable)
    ? `${message}; name another directory with --store`
    : `${message}; look whether the disk fails, and whose the files are`;
}

/** Of a directory that is empty, or that is not there: whether the first put can make a store of it. */
async function placeCheck(directory: string, place: string): Promise<Check> {
  try {
    // Asking for rights does not do: what the system makes up, such as /proc, takes no files from anybody.
    await rmdir(await mkdtemp(join(await nearestThere(resolve(directory)), ".pfs-doctor-")));
    return ok("store", "directory", `${place}, not there yet: the first put makes it`);
  } catch (error) {
    const reason = messageOf(fileError(error, "write", directory));
    return failure("store", "directory", place, `no store can be made there: ${reason}`);
  }
}

/** The directory itself, or the first one above it that is there. */
async function nearestThere(path: string): Promise<string> {
  try {
    await stat(path);
    return path;
  } catch (error) {
    if (systemCode(error) !== "ENOENT" || dirname(path) === path) throw error;
    return await nearestThere(dirname(path));
  }
}

/** A store is told by its index what it has: that its bytes are gone would show when somebody wants them. */
function segmentChecks(store: Store): Check[] {
  const lost = store.lostSegments();
  const [first] = lost;
  if (first === undefined) return [];
  const found = `${plural(lost.length, "file")} gone or cut short, such as ${first}`;
  const advice = "what was in them is lost here, unless a copy is put back; pfs verify names the files";
  return [failure("store", "segments", found, advice)];
}

/** How many names there are, and of how many bytes. */
export async function contentOf(pfs: PacketFS): Promise<string> {
  let names = 0;
  let bytes = 0;
  for await (const file of pfs.list()) {
    names++;
    bytes += file.length;
  }
  return `${plural(names, "name")}, ${formatBytes(bytes)}`;
}

/** What a store says of damage that it found has its advice behind the semicolon, if there is any. */
function repairCheck(note: string): Check {
  const [found = "", advice = "if it comes again, look for a failing disk"] = note.split("; ", 2);
  return warning("store", "repair", found, advice);
}

/** Stores are made for their user alone; older ones were not. */
async function directoryCheck(directory: string, place: string): Promise<Check> {
  const { mode } = await stat(directory);
  if ((mode & 0o077) === 0 || platform() === "win32") return ok("store", "directory", place);
  const advice = `others of this machine may look into it; chmod -R go= ${directory} makes it the owner's alone`;
  return warning("store", "directory", place, advice);
}

async function diskCheck(directory: string): Promise<Check> {
  try {
    await access(directory, constants.R_OK);
    const { bavail, bsize } = await statfs(directory);
    const found = `${formatBytes(bavail * bsize)} free`;
    const mayWrite = await access(directory, constants.W_OK).then(
      () => true,
      () => false,
    );
    if (!mayWrite) {
      const advice = "files can be read and programs run, but nothing can be stored";
      return warning("store", "disk", `${found}, may only be read`, advice);
    }
    return bavail * bsize >= DISK_BYTES_LEAST
      ? ok("store", "disk", found)
      : warning("store", "disk", found, "little room is left: pfs gc frees some, and more after a pfs rm");
  } catch (error) {
    return failure("store", "disk", errorToJson(error).message, "the store must be readable");
  }
}
