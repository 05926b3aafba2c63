/** The allow list on disk, so that a machine joins once and a hub that starts again knows it. */
import { readFile } from "node:fs/promises";
import { replaceFile } from "../../runtime/durable-file.ts";
import { WireError, WireErrorCode, systemCode } from "../errors.ts";
import { AllowList } from "../wire/trust/allow-list.ts";

/** Nobody else need know who may come in. */
const PRIVATE = 0o600;

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
    const saved = this.#last.then(() =>
      replaceFile(this.#file, `${JSON.stringify(this.#allowList, undefined, 1)}\n`, PRIVATE),
    );
    this.#last = saved.catch(() => undefined);
    return saved;
  }
}
