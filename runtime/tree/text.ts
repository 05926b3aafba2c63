/** Paths of a tree as people read them. */

/** The bytes (latin1) as UTF-8; what is none is shown as U+FFFD. */
export function textOf(path: string): string {
  // Most are ASCII.
  return /^[\x20-\x7e]*$/.test(path) ? path : Buffer.from(path, "latin1").toString("utf8");
}

/** What somebody typed or another interface gave, as the bytes that names are here. */
export function bytesOfText(text: string): string {
  return /^[\x20-\x7e]*$/.test(text) ? text : Buffer.from(text).toString("latin1");
}
