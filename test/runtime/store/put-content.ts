/** How the child that puts files and the test that kills it name a file's bytes: `seed/length`. */
import { randomBytes } from "./store-fixture.ts";

export function bytesOf(content: string): Uint8Array<ArrayBuffer> {
  const [seed = "", length] = content.split("/");
  return randomBytes(seed, Number(length));
}
