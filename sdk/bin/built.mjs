// Plain JavaScript that any Node can parse: says whether this one is new enough, and finds what is built of the sources.
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const MAJOR_LEAST = 24;
const MINOR_LEAST = 15;
const BUILDER = new URL("../../runtime/build/build.mjs", import.meta.url);
const DIST = new URL("../../dist/", import.meta.url);

/** A sentence when this Node is too old for PacketFS, otherwise undefined. */
export function whyTooOld() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > MAJOR_LEAST || (major === MAJOR_LEAST && minor >= MINOR_LEAST)) return undefined;
  return `PacketFS needs Node ${MAJOR_LEAST}.${MINOR_LEAST} or later; this is ${process.version}`;
}

/** The URL of a built file: published in dist/, in a checkout made when the sources have changed. */
export function builtFile(name) {
  if (!existsSync(BUILDER)) return new URL(name, DIST);
  return new URL(name, createRequire(import.meta.url)(fileURLToPath(BUILDER)).builtFolder());
}
