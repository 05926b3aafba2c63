/** Fields that metadata of many messages have. */
import * as v from "valibot";
import { NAME_BYTES_MAX } from "../packets/limits.ts";
import { LABEL_CHARACTERS_MAX } from "./limits.ts";

export const count: v.GenericSchema<unknown, number> = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
export const milliseconds: v.GenericSchema<unknown, number> = v.pipe(v.number(), v.finite(), v.minValue(0));
export const name: v.GenericSchema<unknown, string> = v.pipe(v.string(), v.maxLength(NAME_BYTES_MAX));
/** What a file is called: a name may have "@" and a version of 15 digits behind it. */
export const file: v.GenericSchema<unknown, string> = v.pipe(v.string(), v.maxLength(NAME_BYTES_MAX + 16));
export const id: v.GenericSchema<unknown, string> = v.pipe(v.string(), v.regex(/^[0-9a-zA-Z._-]{1,64}$/));
export const label: v.GenericSchema<unknown, string> = v.pipe(v.string(), v.maxLength(LABEL_CHARACTERS_MAX));
export const ref: v.GenericSchema<unknown, Uint8Array> = v.pipe(
  v.instance(Uint8Array),
  v.check((bytes) => bytes.byteLength === 32, "a ref has 32 bytes"),
);
