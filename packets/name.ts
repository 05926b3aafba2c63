/** Which names a file may have in a catalog. A name is data: it is stored byte for byte and never opened as a path. */
import { refFromHex } from "./digest.ts";
import { NAME_BYTES_MAX } from "./limits.ts";

/** C0 and C1 controls, DEL, and the two characters that end a line in Unicode. */
// oxlint-disable-next-line no-control-regex -- finding them is the point
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/;
/** They make a name look like another one: "gpj.exe" shown as "exe.jpg". */
const BIDI = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/;

const encoder = new TextEncoder();

/** Why `name` is no name for a file, in a few words, or null. `/` divides it into components, as in a path. */
export function invalidName(name: string): string | null {
  if (name === "") return "it is empty";
  if (!name.isWellFormed()) return "it is not well-formed Unicode";
  // No character takes less than one byte: what is far too long is not encoded at all.
  if (name.length > NAME_BYTES_MAX || encoder.encode(name).length > NAME_BYTES_MAX) {
    return `it is longer than ${NAME_BYTES_MAX} bytes`;
  }
  if (refFromHex(name) !== undefined)
    return "64 hexadecimal digits are a root, which names the bytes themselves";
  if (CONTROL.test(name)) return "it has control characters";
  if (BIDI.test(name)) return "it has characters that change the direction of text";
  for (const component of name.split("/")) {
    if (component === "") return "it has an empty component";
    if (component === "." || component === "..") return `it has a component "${component}"`;
  }
  return null;
}

const VERSION_OF_NAME = /^(.+)@([1-9]\d{0,14})$/s;

/** The name and the version that `NAME@3` reads as where nothing has that very name. */
export function versionOfName(text: string): { readonly name: string; readonly version: number } | undefined {
  const [, name = "", version] = VERSION_OF_NAME.exec(text) ?? [];
  return invalidName(name) === null ? { name, version: Number(version) } : undefined;
}
