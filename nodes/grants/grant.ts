/**
 * A grant is a hub's signed word to one of its nodes that one client may run packets of one program there, so much of it and so long:
 * the client shows it to the node, and their packets go there and back without the hub. Pure: it is made and checked here.
 *
 *   client ──asks for grants──▶ hub                       which nodes, and how much of each, is the hub's to say
 *      └─── LOAD with a grant, EXEC ──▶ node              which believes its hub's signature, and counts
 */
import { randomBytes } from "node:crypto";
import * as v from "valibot";
import { sameBytes } from "../../packets/digest.ts";
import { GRANT_SKEW_MS, OFFER_NAME_CHARACTERS_MAX } from "../limits.ts";
import { SIGNATURE_BYTES, isSignedBy, signedText } from "../wire/trust/keys.ts";
import type { Identity } from "../wire/trust/keys.ts";

/** What a grant allows. */
export interface GrantTerms {
  /** Who may use it, and where: peer ids. */
  readonly client: string;
  readonly node: string;
  /** The node's own name for its executor. */
  readonly executor: string;
  /** What the hub calls the loaded program, by which it withdraws all grants for it. */
  readonly job: string;
  /** The ref of its manifest's chunk; of packet code, its 32 bytes. */
  readonly program: Uint8Array;
  readonly isInline: boolean;
  /** Packets that may be unanswered at a time, and packets, bytes of input and CPU time in all. */
  readonly unanswered: number;
  readonly packets: number;
  readonly inputBytes: number;
  readonly cpuMs: number;
  /** By the hub's clock, in milliseconds since 1970. */
  readonly issuedAt: number;
  readonly expiresAt: number;
}

export interface Grant extends GrantTerms {
  /** No other grant has it: 32 hexadecimal digits. */
  readonly id: string;
  /** The hub's, Ed25519, 64 bytes. */
  readonly signature: Uint8Array;
}

/** What a node knows when somebody shows it a grant. */
export interface GrantBearer {
  /** The signing key of the hub that the node has joined. */
  readonly hub: Uint8Array;
  /** The node's own id, and the client's, whose session it is. */
  readonly node: string;
  readonly client: string;
  /** What the client wants to load. */
  readonly executor: string;
  readonly program: Uint8Array;
  readonly isInline: boolean;
  /** Milliseconds since 1970. What was granted before the node began may have been used up there. */
  readonly now: number;
  readonly since: number;
}

const ID_BYTES = 16;
const peer = v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/));
const amount = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

function bytes(length: number): v.GenericSchema<unknown, Uint8Array> {
  return v.pipe(
    v.instance(Uint8Array),
    v.check((value) => value.byteLength === length, `must have ${length} bytes`),
  );
}

export const Grant: v.GenericSchema<unknown, Grant> = v.object({
  id: peer,
  client: peer,
  node: peer,
  executor: v.pipe(v.string(), v.regex(/^[a-z0-9-]+$/), v.maxLength(OFFER_NAME_CHARACTERS_MAX)),
  job: v.pipe(v.string(), v.regex(/^[0-9a-zA-Z._-]{1,64}$/)),
  program: bytes(32),
  isInline: v.boolean(),
  unanswered: amount,
  packets: amount,
  inputBytes: amount,
  cpuMs: amount,
  issuedAt: amount,
  expiresAt: amount,
  signature: bytes(SIGNATURE_BYTES),
});

export function signGrant(terms: GrantTerms, hub: Identity): Grant {
  const unsigned = { ...terms, id: randomBytes(ID_BYTES).toString("hex") };
  return { ...unsigned, signature: hub.sign(grantText(unsigned)) };
}

/** Why the grant does not let this client do this here and now, for people, or null. */
export function invalidGrant(grant: Grant, bearer: GrantBearer): string | null {
  if (!isSignedBy(bearer.hub, grantText(grant), grant.signature)) return "the hub has not signed it";
  if (grant.node !== bearer.node) return "it is for another node";
  if (grant.client !== bearer.client) return "it is for another client";
  if (grant.executor !== bearer.executor) return "it is for another executor";
  if (grant.isInline !== bearer.isInline || !sameBytes(grant.program, bearer.program))
    return "it is for another program";
  if (grant.expiresAt <= bearer.now) return "it has expired";
  if (grant.issuedAt > bearer.now + GRANT_SKEW_MS) return "the clocks of hub and node disagree";
  return grant.issuedAt < bearer.since ? "it is older than this node" : null;
}

function grantText(grant: Omit<Grant, "signature">): Uint8Array {
  const { unanswered, packets, inputBytes, cpuMs, issuedAt, expiresAt } = grant;
  return signedText([
    "packetfs 1 grant",
    grant.id,
    grant.client,
    grant.node,
    grant.executor,
    grant.job,
    grant.isInline ? "code" : "manifest",
    grant.program,
    ...[unanswered, packets, inputBytes, cpuMs, issuedAt, expiresAt].map(String),
  ]);
}
