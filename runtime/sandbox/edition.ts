/**
 * The edition of answers that guests here give: what the language leaves open to an engine, which is V8 and ICU, and the
 * code of ours that runs around a program.
 */
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { extname } from "node:path";

const GUEST = new URL("./guest/", import.meta.url);
const DIGEST_CHARACTERS = 12;

let edition: string | undefined;

/** Of this process's own Node, which its executor processes run too: "v8-13.6.233.17-icu-78.3-0f3a…". */
export function guestEdition(): string {
  return (edition ??= makeEdition());
}

function makeEdition(): string {
  const digest = createHash("sha256");
  // The text of the files, because loading them takes longer than anything else that a short command does.
  const ending = extname(import.meta.url);
  for (const file of readdirSync(GUEST).sort()) {
    if (!file.endsWith(ending) || file.endsWith(".d.ts")) continue;
    digest.update(`${file.slice(0, -ending.length)}\0`).update(readFileSync(new URL(file, GUEST)));
  }
  const guest = digest.digest("hex").slice(0, DIGEST_CHARACTERS);
  const v8 = process.versions.v8.replace(/-.*$/, "");
  return `v8-${v8}-icu-${process.versions["icu"] ?? "none"}-${guest}`;
}
