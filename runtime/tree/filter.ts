/**
 * Which paths of a directory are meant. Rules are tried in their order, and the first one that fits decides, as with rsync;
 * what no rule fits is meant. Patterns are those of .gitignore: one without a slash, but at its end, fits a name at any depth, others the path from
 * the directory on; a slash at the end fits directories alone. `*` and `?` stand for any bytes but "/", `**` for any,
 * `[a-z]` and `[!a-z]` for one, and a backslash takes the next character as it is. What is below a directory that is left out is left out.
 */
import { TreeError, TreeErrorCode } from "../errors.ts";
import { bytesOfText } from "./text.ts";

export interface TreeRule {
  readonly kind: "include" | "exclude";
  readonly pattern: string;
}

interface Rule {
  readonly includes: boolean;
  /** Fits the whole path, or its last name alone. */
  readonly expression: RegExp;
  readonly isOfName: boolean;
  readonly isOfDirectories: boolean;
}

export class TreeFilter {
  readonly #rules: readonly Rule[];

  /** Throws PFS_PATTERN_INVALID for a pattern that is none. */
  constructor(rules: readonly TreeRule[] = []) {
    this.#rules = rules.map(parseRule);
  }

  get isEmpty(): boolean {
    return this.#rules.length === 0;
  }

  /** Of a path in bytes (latin1), whose directory is meant. */
  takes(path: string, isDirectory: boolean): boolean {
    for (const { includes, expression, isOfName, isOfDirectories } of this.#rules) {
      if (isOfDirectories && !isDirectory) continue;
      if (expression.test(isOfName ? path.slice(path.lastIndexOf("/") + 1) : path)) return includes;
    }
    return true;
  }
}

function parseRule({ kind, pattern }: TreeRule): Rule {
  const isOfDirectories = pattern.endsWith("/");
  const body = isOfDirectories ? pattern.slice(0, -1) : pattern;
  if (body.replace(/^\//, "") === "") throw invalid(pattern, "it has no name");
  const isOfName = !body.includes("/");
  // Paths are bytes, so what is typed is compared as bytes too.
  const bytes = bytesOfText(body.replace(/^\//, ""));
  return {
    includes: kind === "include",
    expression: new RegExp(`^${expressionOf(bytes, pattern)}$`, "s"),
    isOfName,
    isOfDirectories,
  };
}

function expressionOf(glob: string, pattern: string): string {
  let text = "";
  for (let at = 0; at < glob.length; at++) {
    const character = glob[at]!;
    if (character === "*") {
      if (glob[at + 1] !== "*") {
        text += "[^/]*";
        continue;
      }
      while (glob[at + 1] === "*") at++;
      // "a/**/b" is "a/b" too, and "**/b" is "b".
      const isWhole = (text === "" || text.endsWith("/")) && glob[at + 1] === "/";
      if (isWhole) at++;
      text += isWhole ? "(?:.*/)?" : ".*";
    } else if (character === "?") text += "[^/]";
    else if (character === "[") {
      const end = glob.indexOf("]", at + 2 + (glob[at + 1] === "!" || glob[at + 1] === "^" ? 1 : 0));
      if (end < 0) throw invalid(pattern, "a [ has no ]");
      text += setOf(glob.slice(at + 1, end), pattern);
      at = end;
    } else if (character === "\\") {
      if (at + 1 === glob.length) throw invalid(pattern, "nothing follows its backslash");
      text += escaped(glob[++at]!);
    } else text += escaped(character);
  }
  return text;
}

function setOf(inside: string, pattern: string): string {
  const isNegated = /^[!^]/.test(inside);
  const members = (isNegated ? inside.slice(1) : inside).replace(/[\\\]^[]/g, "\\$&");
  try {
    const set = `(?!/)[${isNegated ? "^" : ""}${members}]`;
    new RegExp(set);
    return set;
  } catch {
    throw invalid(pattern, `[${inside}] is no set of characters`);
  }
}

function escaped(character: string): string {
  return /[\w\s]/.test(character) ? character : `\\${character}`;
}

function invalid(pattern: string, reason: string): TreeError {
  return new TreeError(TreeErrorCode.invalidPattern, `${JSON.stringify(pattern)} is no pattern: ${reason}`, {
    pattern,
    reason,
  });
}
