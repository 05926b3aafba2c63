/** What a check of pfs doctor found, and how people are shown it. */
import { styleText } from "node:util";
import { displayWidth, printable, wrapAll, wrapWords } from "../format.ts";
import type { Output } from "../output.ts";

export interface Check {
  readonly topic: string;
  readonly name: string;
  readonly found: string;
  /** Anything else than "ok" says what follows from it. */
  readonly state: "ok" | "warning" | "failure";
  readonly advice?: string;
}

const MARKS = { ok: " ", warning: "!", failure: "✗" } as const;
const COLOURS = { ok: "green", warning: "yellow", failure: "red" } as const;
const NAME_WIDTH = 22;
const INDENT: string = " ".repeat(NAME_WIDTH + 2);
const PATH_INDENT = "    ";
const TEXT_COLUMNS_MIN = 24;

export function ok(topic: string, name: string, found: string): Check {
  return { topic, name, found, state: "ok" };
}

export function warning(topic: string, name: string, found: string, advice: string): Check {
  return { topic, name, found, state: "warning", advice };
}

export function failure(topic: string, name: string, found: string, advice: string): Check {
  return { topic, name, found, state: "failure", advice };
}

/** The walls that stand are one line for people: what they look for are the others. */
export function inOneLine(checks: readonly Check[]): readonly Check[] {
  const standing = checks.filter(({ topic, found }) => topic === "walls" && found === "stands");
  if (standing.length === 0) return checks;
  const names = standing.map(({ name }) => name).join(", ");
  const rest = checks.filter((check) => !standing.includes(check));
  return [ok("walls", `${standing.length} of ${checks.length} stand`, names), ...rest];
}

/** The checks of one topic, below its name. */
export function topicLines(checks: readonly Check[], { isTerminal, width }: Output): string[] {
  const [first] = checks;
  if (first === undefined) return [];
  const style = { stream: process.stdout };
  const laid = (text: string): string[] => (isTerminal ? laidOut(text, width - 1) : [INDENT + text]);
  return [
    styleText("bold", first.topic, style),
    ...checks.flatMap(({ state, name, found, advice }) => {
      const [line = "", ...rest] = laid(printable(found));
      const head = `${styleText(COLOURS[state], MARKS[state], style)} ${name.padEnd(NAME_WIDTH)}`;
      const heading = line.startsWith(INDENT) ? [head + line.slice(INDENT.length)] : [head.trimEnd(), line];
      return [...heading, ...rest, ...(advice === undefined ? [] : laid(`→ ${advice}`))];
    }),
  ];
}

/** Lines for a terminal, behind the names. A path that has no room there stands in one piece where it has, to be copied. */
function laidOut(text: string, width: number): string[] {
  const room = Math.max(TEXT_COLUMNS_MIN, width - INDENT.length);
  return wrapWords(text, room)
    .split("\n")
    .flatMap((line) => {
      const columns = displayWidth(line);
      return columns > room && columns <= width - PATH_INDENT.length
        ? [PATH_INDENT + line]
        : wrapAll(line, room).map((each) => INDENT + each);
    });
}
