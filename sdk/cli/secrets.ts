/**
 * Tokens as commands are given them. What stands on a command line every user of a machine can read, so a token may come from a
 * file, a variable or stdin as well.
 */
import { open } from "node:fs/promises";
import type { Command } from "commander";
import { fileError, UsageError } from "../errors.ts";

/** A token has some 200 characters; nobody means more. */
const TOKEN_BYTES_MAX = 4096;

/** Where a token comes from. */
export interface TokenSource {
  /** What said so: "--at", "PACKETFS_AT", "--token-file" … */
  readonly origin: string;
  /** Whether reading it takes stdin, so that nothing else can. */
  readonly fromStdin: boolean;
  /** Rejects with PFS_FILE_NOT_FOUND, PFS_FILE_FAILED, PFS_USAGE when it is empty, and with the signal's reason. */
  read(signal: AbortSignal): Promise<string>;
}

/**
 * The token of a command: as `given` (an operand, or undefined), in an option of that name, or in a file. What was typed goes before what
 * variables say. Undefined when there is none; throws PFS_USAGE when two were typed.
 */
export function tokenSource(
  command: Command,
  given: { readonly text: string | undefined; readonly origin: string; readonly isTyped: boolean },
): TokenSource | undefined {
  const { tokenFile: file } = command.optsWithGlobals<{ readonly tokenFile?: string }>();
  const fileIsTyped = file !== undefined && command.getOptionValueSourceWithGlobals("tokenFile") === "cli";
  const { text, origin, isTyped } = given;
  if (fileIsTyped && isTyped && text !== undefined) {
    throw new UsageError(`${origin} and --token-file both give a token; leave one out`);
  }
  if (text === undefined || (fileIsTyped && !isTyped)) {
    if (file === undefined) return undefined;
    const fileOrigin = fileIsTyped ? "--token-file" : "PACKETFS_TOKEN_FILE";
    return {
      origin: fileOrigin,
      fromStdin: file === "-",
      read: (signal) => readToken(file, fileOrigin, signal),
    };
  }
  if (text === "-") return { origin, fromStdin: true, read: (signal) => readToken("-", origin, signal) };
  return { origin, fromStdin: false, read: async () => text };
}

async function readToken(path: string, origin: string, signal: AbortSignal): Promise<string> {
  const bytes = path === "-" ? await readStdin(signal) : await readStart(path);
  const token = bytes.toString("utf8").trim();
  if (token === "")
    throw new UsageError(
      `there is no token in what ${origin} names: ${path === "-" ? "stdin" : path} is empty`,
    );
  return token;
}

async function readStdin(signal: AbortSignal): Promise<Buffer> {
  const { addAbortSignal } = await import("node:stream");
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of addAbortSignal(signal, process.stdin) as AsyncIterable<Buffer>) {
    pieces.push(piece);
    bytes += piece.byteLength;
    if (bytes >= TOKEN_BYTES_MAX) break;
  }
  return Buffer.concat(pieces);
}

async function readStart(path: string): Promise<Buffer> {
  try {
    await using file = await open(path, "r");
    const start = Buffer.alloc(TOKEN_BYTES_MAX);
    let bytes = 0;
    // From where the file is: a pipe, as of <(pass show hub), knows no places, and yields what it has in pieces.
    while (bytes < TOKEN_BYTES_MAX) {
      const { bytesRead } = await file.read(start, bytes, TOKEN_BYTES_MAX - bytes, null);
      if (bytesRead === 0) break;
      bytes += bytesRead;
    }
    return start.subarray(0, bytes);
  } catch (error) {
    throw fileError(error, "read", path);
  }
}
