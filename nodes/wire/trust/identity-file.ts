import { readFile, stat } from "node:fs/promises";
import { sha256 } from "../../../packets/digest.ts";
import { createFile } from "../../../runtime/durable-file.ts";
import { WireError, WireErrorCode } from "../../errors.ts";
import { systemCode } from "../../../runtime/errors.ts";
import { Identity, SECRET_BYTES } from "./keys.ts";

const PREFIX = "pfs1.identity.";
const CHECK_BYTES = 4;

/**
 * The identity that `file` holds; when there is no such file, a fresh one, durable when this resolves. Rejects with
 * PFS_IDENTITY_INVALID when the file is damaged or when others than its owner may read it.
 */
export async function loadIdentity(file: string): Promise<Identity> {
  const found = await findIdentity(file);
  if (found !== undefined) return found;
  const identity = Identity.create();
  return (await writeIdentity(file, identity)) ? identity : await readIdentity(file);
}

/** As `loadIdentity`, but undefined when there is no such file. */
export async function findIdentity(file: string): Promise<Identity | undefined> {
  try {
    return await readIdentity(file);
  } catch (error) {
    if (!isMissing(error)) throw error;
    return undefined;
  }
}

async function readIdentity(file: string): Promise<Identity> {
  const text = (await readFile(file, "utf8")).trim();
  // Windows has no such bits; there the directory's permissions protect the file.
  if (process.platform !== "win32" && ((await stat(file)).mode & 0o077) !== 0) {
    throw invalid(file, `${file} can be read by other users; make it private with chmod 600`);
  }
  const bytes = text.startsWith(PREFIX)
    ? Buffer.from(text.slice(PREFIX.length), "base64url")
    : Buffer.alloc(0);
  const secret = bytes.subarray(0, SECRET_BYTES);
  const check = bytes.subarray(SECRET_BYTES);
  const isWhole = bytes.byteLength === SECRET_BYTES + CHECK_BYTES && check.equals(checkOf(secret));
  if (!isWhole || text !== PREFIX + bytes.toString("base64url")) {
    throw invalid(file, `${file} does not hold an identity, or is damaged`);
  }
  return Identity.fromSecret(secret);
}

/** Resolves with false when another process created the file first. */
async function writeIdentity(file: string, identity: Identity): Promise<boolean> {
  const secret = identity.exportSecret();
  const text = `${PREFIX}${Buffer.concat([secret, checkOf(secret)]).toString("base64url")}\n`;
  return await createFile(file, text);
}

function checkOf(secret: Uint8Array): Uint8Array {
  return sha256(Buffer.concat([Buffer.from(PREFIX), secret])).subarray(0, CHECK_BYTES);
}

function isMissing(error: unknown): boolean {
  return systemCode(error) === "ENOENT";
}

function invalid(file: string, message: string): WireError {
  return new WireError(WireErrorCode.identityInvalid, message, { file });
}
