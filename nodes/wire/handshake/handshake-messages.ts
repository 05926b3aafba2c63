/** The messages of a handshake, as metadata. Nothing in them is believed before it went through these. */
import * as v from "valibot";
import {
  ADDRESS_CHARACTERS_MAX,
  FEATURES_MAX,
  FEATURE_CHARACTERS_MAX,
  LABEL_CHARACTERS_MAX,
} from "../../limits.ts";
import { KEY_BYTES, SIGNATURE_BYTES } from "../trust/keys.ts";
import { Role } from "../link.ts";

export const NONCE_BYTES = 32;

function bytes(length: number): v.GenericSchema<unknown, Uint8Array> {
  return v.pipe(
    v.instance(Uint8Array),
    v.check((value) => value.byteLength === length, `must have ${length} bytes`),
  );
}

const label = v.pipe(v.string(), v.maxLength(LABEL_CHARACTERS_MAX));
/** No spaces, so that a list of them can be signed as one text. */
const feature = v.pipe(v.string(), v.regex(/^[a-z0-9.-]+$/), v.maxLength(FEATURE_CHARACTERS_MAX));
const features = v.pipe(v.array(feature), v.maxLength(FEATURES_MAX));

/** What a side says about itself. */
export interface SelfDescription {
  readonly label: string;
  readonly features: readonly string[];
  readonly address?: string | undefined;
}
const address = v.optional(v.pipe(v.string(), v.maxLength(ADDRESS_CHARACTERS_MAX)));
export const SelfDescription: v.GenericSchema<unknown, SelfDescription> = v.object({
  label,
  features,
  address,
});

/** A machine that joins: the identity that it made for itself, and its proof. */
export interface Joiner {
  readonly signingKey: Uint8Array;
  readonly curveKey: Uint8Array;
  readonly signature: Uint8Array;
}
const joiner: v.GenericSchema<unknown, Joiner> = v.object({
  signingKey: bytes(KEY_BYTES),
  curveKey: bytes(KEY_BYTES),
  signature: bytes(SIGNATURE_BYTES),
});

const helloFields = {
  versions: v.pipe(v.array(v.pipe(v.number(), v.safeInteger())), v.minLength(1), v.maxLength(16)),
  features,
  role: v.picklist(Object.values(Role)),
  label,
  address,
  signingKey: bytes(KEY_BYTES),
  curveKey: bytes(KEY_BYTES),
  nonce: bytes(NONCE_BYTES),
} as const;

/** The first HELLO. */
export interface Hello {
  readonly versions: readonly number[];
  readonly features: readonly string[];
  readonly role: Role;
  readonly label: string;
  readonly address?: string | undefined;
  readonly signingKey: Uint8Array;
  readonly curveKey: Uint8Array;
  readonly nonce: Uint8Array;
}
export const Hello: v.GenericSchema<unknown, Hello> = v.object(helloFields);

/** The second HELLO. With `joiner`, the keys above are an invite's. */
export interface SignedHello extends Hello {
  readonly challenge: Uint8Array;
  readonly signature: Uint8Array;
  readonly joiner?: Joiner | undefined;
}
export const SignedHello: v.GenericSchema<unknown, SignedHello> = v.object({
  ...helloFields,
  challenge: bytes(NONCE_BYTES),
  signature: bytes(SIGNATURE_BYTES),
  joiner: v.optional(joiner),
});

export interface Challenge {
  readonly challenge: Uint8Array;
}
export const Challenge: v.GenericSchema<unknown, Challenge> = v.object({ challenge: bytes(NONCE_BYTES) });

export interface Welcome {
  readonly version: number;
  readonly features: readonly string[];
  readonly role: Role;
  readonly label: string;
  /** The id that the session belongs to: the dialing side's, or the joiner's. */
  readonly you: string;
  readonly signature: Uint8Array;
}
export const Welcome: v.GenericSchema<unknown, Welcome> = v.object({
  version: v.pipe(v.number(), v.safeInteger()),
  features,
  role: v.picklist(Object.values(Role)),
  label,
  you: v.pipe(v.string(), v.maxLength(64)),
  signature: bytes(SIGNATURE_BYTES),
});
