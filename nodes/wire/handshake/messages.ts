/**
 * The messages of a handshake, as metadata, and how two sides prove with them who they are, inside a connection that is
 * encrypted and let in already. Nothing in them is believed before it went through these.
 *
 *     dialing side                                     port
 *     HELLO (who I say I am, nonce) ──────────────────▶
 *                        ◀────────────────── CHALLENGE (32 random bytes, of use once)
 *     HELLO (the same, signed over the challenge, ────▶ the allow list has the key, in this role; the challenge is the
 *            both sides' keys and every field)          one that this connection got, and was not used yet
 *                        ◀────────────────── WELCOME (signed over nonce and challenge), or ERROR with a reason
 *
 * What is signed begins with words that say what it is, and every field has its length in front of it, so that no
 * signature can be taken for another. This file is pure: it makes and checks these messages.
 */
import * as v from "valibot";
import { sha256 } from "../../../packets/digest.ts";
import { acceleratorFields, acceleratorInfo } from "../../accelerator-info.ts";
import {
  ADDRESS_CHARACTERS_MAX,
  FEATURES_MAX,
  FEATURE_CHARACTERS_MAX,
  LABEL_CHARACTERS_MAX,
  EDITION_CHARACTERS_MAX,
  OFFERS_MAX,
  WALLS_MAX,
  WALL_CHARACTERS_MAX,
  OFFER_CAPACITY_MAX,
  OFFER_NAME_CHARACTERS_MAX,
} from "../../limits.ts";
import { Role } from "../link.ts";
import type { ExecutorOffer } from "../link.ts";
import { KEY_BYTES, SIGNATURE_BYTES, isSignedBy, peerId, signedText } from "../trust/keys.ts";
import type { Identity, PublicIdentity } from "../trust/keys.ts";

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

const slots = v.exactOptional(
  v.pipe(v.number(), v.safeInteger(), v.minValue(1), v.maxValue(OFFER_CAPACITY_MAX)),
);
const offer: v.GenericSchema<unknown, ExecutorOffer> = v.object({
  name: v.pipe(v.string(), v.regex(/^[a-z0-9-]+$/), v.maxLength(OFFER_NAME_CHARACTERS_MAX)),
  // A kind of program that this version does not know is left out.
  capacity: v.object({
    js: slots,
    kernel: slots,
    code: slots,
  }),
  edition: v.pipe(v.string(), v.regex(/^[A-Za-z0-9._-]+$/), v.maxLength(EDITION_CHARACTERS_MAX)),
  accelerator: v.exactOptional(acceleratorInfo),
  walls: v.exactOptional(
    v.pipe(
      v.array(v.pipe(v.string(), v.regex(/^[A-Za-z0-9 -]+$/), v.maxLength(WALL_CHARACTERS_MAX))),
      v.maxLength(WALLS_MAX),
    ),
  ),
});
const executors: v.GenericSchema<unknown, ExecutorOffer[]> = v.pipe(
  v.array(offer),
  v.maxLength(OFFERS_MAX),
  v.check((offers) => new Set(offers.map(({ name }) => name)).size === offers.length, "a name stands twice"),
);

/** What a side says about itself. */
export interface SelfDescription {
  readonly label: string;
  readonly features: readonly string[];
  readonly executors: readonly ExecutorOffer[];
  readonly address?: string | undefined;
}
const address = v.optional(v.pipe(v.string(), v.maxLength(ADDRESS_CHARACTERS_MAX)));
export const SelfDescription: v.GenericSchema<unknown, SelfDescription> = v.object({
  label,
  features,
  executors,
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
  executors,
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
  readonly executors: readonly ExecutorOffer[];
  readonly role: Role;
  readonly label: string;
  readonly address?: string | undefined;
  readonly signingKey: Uint8Array;
  readonly curveKey: Uint8Array;
  readonly nonce: Uint8Array;
}
export const Hello: v.GenericSchema<unknown, Hello> = v.object(helloFields);

/** The second HELLO. With `joiner`, the keys above are a join token's. */
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

export const WIRE_VERSIONS: readonly number[] = [1];

/** A port's public keys. */
export interface ServerKeys {
  readonly curveKey: Uint8Array;
  readonly signingKey: Uint8Array;
}

/** Signs a HELLO for the challenge. `joiner` is the joining machine's own identity when `identity` is a join token's. */
export function signHello(
  hello: Hello,
  challenge: Uint8Array,
  server: ServerKeys,
  identity: Identity,
  joining?: Identity,
): SignedHello {
  const text = helloText(hello, challenge, server, joining);
  const signed = { ...hello, challenge, signature: identity.sign(text) };
  if (joining === undefined) return signed;
  const { signingKey, curveKey } = joining;
  const signature = joining.sign(joinText(text));
  return { ...signed, joiner: { signingKey, curveKey, signature } };
}

/** Whether a HELLO is signed by its key, and by the joiner's if there is one. */
export function isHelloSigned(hello: SignedHello, server: ServerKeys): boolean {
  const text = helloText(hello, hello.challenge, server, hello.joiner);
  if (!isSignedBy(hello.signingKey, text, hello.signature)) return false;
  const { joiner: joining } = hello;
  return joining === undefined || isSignedBy(joining.signingKey, joinText(text), joining.signature);
}

/** Signs the answer to a signed HELLO. */
export function signWelcome(
  welcome: Omit<Welcome, "signature">,
  hello: { readonly nonce: Uint8Array; readonly challenge: Uint8Array },
  identity: Identity,
): Welcome {
  return { ...welcome, signature: identity.sign(welcomeText(welcome, hello)) };
}

/** Whether the WELCOME is the answer of this port to this HELLO. */
export function isWelcomeSigned(
  welcome: Welcome,
  hello: { readonly nonce: Uint8Array; readonly challenge: Uint8Array },
  server: ServerKeys,
): boolean {
  return isSignedBy(server.signingKey, welcomeText(welcome, hello), welcome.signature);
}

/** What stands for the session that a signed HELLO begins: all that was signed, so both sides' keys, nonce and challenge. */
export function sessionOf(hello: SignedHello, server: ServerKeys): Uint8Array {
  return sha256(signedText(["packetfs 1 session", helloText(hello, hello.challenge, server, hello.joiner)]));
}

/** The newest version that both sides speak, or undefined. */
export function commonVersion(versions: readonly number[]): number | undefined {
  return versions.filter((version) => WIRE_VERSIONS.includes(version)).toSorted((a, b) => b - a)[0];
}

/** Who the session belongs to. */
export function ownerOf(hello: SignedHello): PublicIdentity {
  const { signingKey, curveKey } = hello.joiner ?? hello;
  return { id: peerId(signingKey), signingKey, curveKey };
}

function helloText(
  hello: Hello,
  challenge: Uint8Array,
  server: ServerKeys,
  joining: ServerKeys | undefined,
): Uint8Array {
  const none = new Uint8Array(0);
  return signedText([
    "packetfs 1 hello",
    server.signingKey,
    server.curveKey,
    challenge,
    hello.nonce,
    hello.versions.join(" "),
    hello.features.join(" "),
    String(hello.features.length),
    ...hello.executors.flatMap(offerFields),
    String(hello.executors.length),
    hello.role,
    hello.label,
    hello.address ?? "",
    hello.signingKey,
    hello.curveKey,
    joining?.signingKey ?? none,
    joining?.curveKey ?? none,
  ]);
}

function offerFields({ name, capacity, edition, walls, accelerator }: ExecutorOffer): string[] {
  const fields = [name, String(capacity.js ?? 0), edition];
  if (capacity.code !== undefined) fields.push("code", String(capacity.code));
  if (capacity.kernel !== undefined) fields.push("kernel", String(capacity.kernel));
  if (accelerator !== undefined) fields.push(...acceleratorFields(accelerator));
  return walls === undefined ? fields : [...fields, walls.join(","), String(walls.length)];
}

function joinText(text: Uint8Array): Uint8Array {
  return signedText(["packetfs 1 join", text]);
}

function welcomeText(
  welcome: Omit<Welcome, "signature">,
  hello: { readonly nonce: Uint8Array; readonly challenge: Uint8Array },
): Uint8Array {
  return signedText([
    "packetfs 1 welcome",
    hello.nonce,
    hello.challenge,
    String(welcome.version),
    welcome.features.join(" "),
    String(welcome.features.length),
    welcome.role,
    welcome.label,
    welcome.you,
  ]);
}
