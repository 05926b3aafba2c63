/** Says where in the author's own files a program failed: the sandbox knows only the bundle. */
import { SourceMap } from "node:module";
import type { SourceMapPayload } from "node:module";
import { PacketfsError } from "../../packets/errors.ts";
import type { ProgramBundle } from "../packetfs.ts";

/** A place as V8 writes it; the sandbox calls every program's module program.js. */
const PLACE = /\bprogram\.js:(\d+):(\d+)/g;

/** The same text with the places in the bundle replaced by those that they come from. */
export function withSourcePlaces(text: string, { sourceMap }: ProgramBundle): string {
  if (sourceMap === undefined) return text;
  const map = new SourceMap(JSON.parse(sourceMap) as SourceMapPayload);
  return text.replace(PLACE, (place, line: string, column: string) => {
    const entry = map.findEntry(Number(line) - 1, Number(column) - 1);
    if (!("originalSource" in entry)) return place;
    return `${entry.originalSource}:${entry.originalLine + 1}:${entry.originalColumn + 1}`;
  });
}

/** The error with the author's places in its message. */
export function atSourcePlaces(error: unknown, bundle: ProgramBundle): unknown {
  if (!(error instanceof PacketfsError)) return error;
  const message = withSourcePlaces(error.message, bundle);
  return message === error.message
    ? error
    : new PacketfsError(error.code, message, error.data, { cause: error.cause });
}

/** What `work` resolves with; when it rejects, the places in the error's message are the author's. */
export async function inSourcePlaces<Result>(bundle: ProgramBundle, work: Promise<Result>): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    throw atSourcePlaces(error, bundle);
  }
}
