/** The allow list on disk, so that a machine joins once and a hub that starts again knows it. */
import { open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { WireError, WireErrorCode, systemCode } from "../errors.ts";
import { AllowList } from "../wire/trust/allow-list.ts";

/** The allow list that `file` holds; an empty one when there is no such file. Rejects with PFS_ALLOW_LIST_INVALID. */
export async function readAllowList(file: string): Promise<AllowList> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if (systemCode(error) === "ENOENT") return new AllowList();
    throw error;
  }
  try {
    return AllowList.fromJSON(JSON.parse(text));
  } catch (error) {
    const message = `the allow list ${file} is damaged: ${error instanceof Error ? error.message : String(error)}`;
    throw new WireError(WireErrorCode.allowListInvalid, message, { reason: "damaged" }, { cause: error });
  }
}

/** Writes an allow list to its file, one write at a time: machines may join at the same moment. */
export class AllowListWriter {
  readonly #file: string;
  readonly #allowList: AllowList;
  #last: Promise<void> = Promise.resolve();

  constructor(file: string, allowList: AllowList) {
    this.#file = file;
    this.#allowList = allowList;
  }

  /** The allow list as it is now is durable when this resolves; a crash leaves the old file or the new one. */
  save(): Promise<void> {
    const saved = this.#last.then(() => writeAllowList(this.#file, this.#allowList));
    this.#last = saved.catch(() => undefined);
    return saved;
  }
}

async function writeAllowList(file: string, allowList: AllowList): Promise<void> {
  const temporary = `${file}.new`;
  const handle = await open(temporary, "w", 0o600);
  try {
    await handle.writeFile(`${JSON.stringify(allowList, undefined, 1)}\n`);
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
