/** Which names a system cannot have, or takes for others. */
import type { TreeEntry } from "../../packets/tree.ts";
import { bytesOfText, textOf } from "./text.ts";

/** Names that are devices on Windows, with any ending. */
const DEVICES =
  /^(con|prn|aux|nul|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3]|conin\$|conout\$)\s*(\.|$)/i;

/** Why this system has no file of that name (in bytes), or null. */
export function unwritableName(name: string, platform: NodeJS.Platform): string | null {
  if (platform === "linux") return null;
  const text = textOf(name);
  if (bytesOfText(text) !== name) return "its name is no UTF-8, which this system asks for";
  if (platform !== "win32") return null;
  if (/[<>:"|?*\\]/.test(text) || Array.from(text).some((character) => character < " "))
    return "its name has a character that Windows has other uses for";
  if (/[. ]$/.test(text)) return "its name ends with a dot or a space, which Windows leaves out";
  return DEVICES.test(text) ? "its name is a device on Windows" : null;
}

/** Finds two names of one directory that this system takes for one. Entries come in the order of a manifest. */
export class NameCollisions {
  readonly #isUsed: boolean;
  readonly #levels: Map<string, string>[] = [];

  constructor(platform: NodeJS.Platform) {
    this.#isUsed = platform === "darwin" || platform === "win32";
  }

  /** The name that is there already and the same here; undefined where there is none. */
  next({ depth, name }: Pick<TreeEntry, "depth" | "name">): string | undefined {
    if (!this.#isUsed) return undefined;
    this.#levels.length = Math.min(this.#levels.length, depth + 1);
    const level = (this.#levels[depth] ??= new Map());
    const folded = textOf(name).normalize("NFC").toLowerCase();
    const other = level.get(folded);
    if (other === undefined) level.set(folded, name);
    return other;
  }
}
