/** The roster on disk, so that a machine joins once and a hub that starts again knows it. */
import { open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { WireError, WireErrorCode } from "../errors.ts";
import { Roster } from "../wire/trust/allow-list.ts";

/** The roster that `file` holds; an empty one when there is no such file. Rejects with PFS_ROSTER_INVALID. */
export async function readRoster(file: string): Promise<Roster> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return new Roster();
    throw error;
  }
  try {
    return Roster.fromJSON(JSON.parse(text));
  } catch (error) {
    const message = `the roster ${file} is damaged: ${error instanceof Error ? error.message : String(error)}`;
    throw new WireError(WireErrorCode.rosterInvalid, message, { reason: "damaged" }, { cause: error });
  }
}

/** Writes a roster to its file, one write at a time: machines may join at the same moment. */
export class RosterWriter {
  readonly #file: string;
  readonly #roster: Roster;
  #last: Promise<void> = Promise.resolve();

  constructor(file: string, roster: Roster) {
    this.#file = file;
    this.#roster = roster;
  }

  /** The roster as it is now is durable when this resolves; a crash leaves the old file or the new one. */
  save(): Promise<void> {
    const saved = this.#last.then(() => writeRoster(this.#file, this.#roster));
    this.#last = saved.catch(() => undefined);
    return saved;
  }
}

async function writeRoster(file: string, roster: Roster): Promise<void> {
  const temporary = `${file}.new`;
  const handle = await open(temporary, "w", 0o600);
  try {
    await handle.writeFile(`${JSON.stringify(roster, undefined, 1)}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, file);
  if (process.platform === "win32") return;
  const directory = await open(dirname(file), "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
