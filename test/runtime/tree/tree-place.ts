/** Directories for tests of trees: made of a description, and described again. */
import {
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
  utimesSync,
  lutimesSync,
  writeFileSync,
  chmodSync,
} from "node:fs";
import { microseconds } from "../../../runtime/tree/scan.ts";

/** What stands at a path: bytes, a symbolic link's target, another name of a file, or a directory. */
export type Made =
  | { readonly bytes: Uint8Array | string; readonly mode?: number; readonly mtime?: number }
  | { readonly target: string }
  | { readonly link: string }
  | { readonly mode?: number };

const at = (directory: string, path: string): Buffer =>
  Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(path, "latin1")]);

/** Paths are bytes (latin1). Directories on the way are made. */
export function make(directory: string, entries: Readonly<Record<string, Made>>): void {
  mkdirSync(directory, { recursive: true });
  for (const [path, made] of Object.entries(entries)) {
    const whole = at(directory, path);
    const slash = path.lastIndexOf("/");
    if (slash > 0) mkdirSync(at(directory, path.slice(0, slash)), { recursive: true });
    if ("bytes" in made) {
      writeFileSync(whole, made.bytes);
      chmodSync(whole, made.mode ?? 0o644);
      if (made.mtime !== undefined) utimesSync(whole, String(made.mtime), String(made.mtime));
    } else if ("target" in made) {
      symlinkSync(Buffer.from(made.target, "latin1"), whole);
      lutimesSync(whole, 1_500_000_000, 1_500_000_000);
    } else if ("link" in made) linkSync(at(directory, made.link), whole);
    else {
      mkdirSync(whole, { recursive: true });
      chmodSync(whole, made.mode ?? 0o755);
    }
  }
}

/** One line for each path: type, mode, microseconds, what it holds, and with which others it is one file. */
export function describeDirectory(directory: string): string[] {
  const lines: string[] = [];
  const files = new Map<bigint, string>();
  const visit = (path: string): void => {
    const whole = path === "" ? Buffer.from(directory) : at(directory, path);
    const stats = lstatSync(whole, { bigint: true });
    const mode = (stats.mode & 0o7777n).toString(8);
    const time = ` ${microseconds(stats.mtimeNs)}`;
    const shown = JSON.stringify(path);
    if (stats.isSymbolicLink()) {
      lines.push(`${shown} link${time} ${JSON.stringify(readlinkSync(whole, { encoding: "latin1" }))}`);
      return;
    }
    if (stats.isDirectory()) {
      lines.push(`${shown} directory ${mode}${time}`);
      const names = readdirSync(whole, { encoding: "latin1" }).toSorted((a, b) => (a < b ? -1 : 1));
      for (const name of names) visit(path === "" ? name : `${path}/${name}`);
      return;
    }
    const first = files.get(stats.ino) ?? path;
    files.set(stats.ino, first);
    const bytes = readFileSync(whole);
    const content =
      bytes.length > 64 ? `${bytes.length} ${hashOf(bytes)}` : JSON.stringify(bytes.toString("latin1"));
    lines.push(
      `${shown} file ${mode}${time} ${content}${first === path ? "" : ` = ${JSON.stringify(first)}`}`,
    );
  };
  visit("");
  return lines;
}

function hashOf(bytes: Uint8Array): string {
  let hash = 0;
  for (const byte of bytes) hash = (Math.imul(hash, 31) + byte) | 0;
  return (hash >>> 0).toString(16);
}

/** Names that have been trouble somewhere, in bytes. */
export const AWKWARD: readonly string[] = [
  ...Array.from({ length: 255 }, (_, byte) => String.fromCharCode(byte + 1))
    .filter((character) => character !== "/" && character !== ".")
    .map((character) => `b${character}`),
  " ",
  "  leading",
  "trailing ",
  "...",
  ".hidden",
  "-rf",
  "--help",
  "*",
  "?",
  "[a]",
  "{a,b}",
  "$HOME",
  "`id`",
  "a;b",
  "a|b",
  "a&b",
  "con",
  "NUL",
  "aux.txt",
  "COM1",
  "a.",
  "tab\there",
  "new\nline",
  "cr\rhere",
  "esc\x1b[31m",
  "\x7f",
  "\xff\xfe",
  "\xc3(",
  "\xe2\x80\xaeexe.txt",
  "\xe2\x81\xa6bidi",
  "\xef\xbb\xbfbom",
  "\xf0\x9f\x8e\x89",
  "e\xcc\x81",
  "\xc3\xa9",
  "Case",
  "case",
  "CASE",
  "x".repeat(255),
  "\xff".repeat(255),
  "name@3",
  "a".repeat(64),
  "%2e%2e",
  "\\",
  "a\\b",
  ":",
  "C:",
  "~",
  "#",
  "@",
];
