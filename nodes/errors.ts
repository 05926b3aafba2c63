/** The errors of machines that speak with each other. Match them by `code`: `instanceof` does not survive the wire. */
import { PacketfsError } from "../packets/errors.ts";

/** Something about the wire (keys, tokens, the port, a peer, a session, a message), or a request that came over it. */
export class WireError extends PacketfsError<WireErrorCode> {
  override readonly name: string = "WireError";
}

export const WireErrorCode = {
  /** A token is truncated, mistyped or of the wrong kind; data: reason. */
  tokenInvalid: "PFS_TOKEN_INVALID",
  /** An identity file is damaged, or others may read it; data: file. */
  identityInvalid: "PFS_IDENTITY_INVALID",
  /** A text is not HOST:PORT; data: address. */
  addressInvalid: "PFS_ADDRESS_INVALID",
  /** An allow list or what is counted of its keys is malformed, or an entry contradicts another; data: reason. */
  allowListInvalid: "PFS_ALLOW_LIST_INVALID",
  /** The port cannot be opened; data: address, system. */
  portUnavailable: "PFS_PORT_UNAVAILABLE",
  /** The port was closed because nothing checks keys any more. */
  authenticatorLost: "PFS_AUTHENTICATOR_LOST",
  /** Nobody answers there in time; data: address. */
  unreachable: "PFS_PEER_UNREACHABLE",
  /** The peer answers, and says no; data: address, reason. */
  refused: "PFS_PEER_REFUSED",
  /** A signed HELLO came whose challenge is used up, too old or another session's. */
  helloReplayed: "PFS_HELLO_REPLAYED",
  /** The session with the peer ended before the answer came; data: peer, reason. */
  nodeLost: "PFS_NODE_LOST",
  /** The peer takes messages more slowly than they are handed over; data: peer, bufferedBytes. */
  slow: "PFS_PEER_SLOW",
  /** The peer has too many requests of ours in progress; data: peer. */
  busy: "PFS_PEER_BUSY",
  /** No answer within the request's own time limit, or silence about it for too long; data: peer, silentMs. */
  timeout: "PFS_REQUEST_TIMEOUT",
  /** The request's signal was aborted. */
  cancelled: "PFS_CANCELLED",
  /** The link was closed on this side. */
  closed: "PFS_LINK_CLOSED",
  /** The peer does not know the session (any more): it must say HELLO again. */
  sessionUnknown: "PFS_SESSION_UNKNOWN",
  /** A message does not match its envelope, or is too long; data: reason. */
  messageInvalid: "PFS_MESSAGE_INVALID",
  /** A message is larger than the wire allows; data: bytes, limit. */
  messageTooLarge: "PFS_MESSAGE_TOO_LARGE",
  /** Nobody here answers messages of this type; data: type. */
  messageUnknown: "PFS_MESSAGE_UNKNOWN",
  /** Metadata is not the MessagePack, or not of the shape, that it must be; data: reason. */
  metaInvalid: "PFS_META_INVALID",
  /** A peer broke the rules of the wire and its session was ended; data: reason. */
  offence: "PFS_PEER_OFFENDED",

  /** Bytes on a bulk channel are not the next ones that its peer sent; data: reason. */
  bulkDamaged: "PFS_BULK_DAMAGED",
  /** A bulk channel ended before its peer said so; data: reason. */
  bulkCut: "PFS_BULK_CUT",
  /** There is no bulk channel with the peer; data: reason. */
  bulkUnavailable: "PFS_BULK_UNAVAILABLE",
  /** A file that a bulk channel reads from or writes to cannot be used; data: file, system. */
  bulkFileFailed: "PFS_BULK_FILE_FAILED",
  /** A peer says what it may not in a transfer; data: reason. */
  transferInvalid: "PFS_TRANSFER_INVALID",
  /** A transfer was begun again and again, and nothing came; data: runs. */
  transferFruitless: "PFS_TRANSFER_FRUITLESS",

  // What a node answers to requests that came over a link.

  /** A grant lets nobody do this here; data: reason. */
  grantInvalid: "PFS_GRANT_INVALID",
  /** A grant held, and holds no more; data: reason. */
  grantEnded: "PFS_GRANT_ENDED",
  /** More than a grant allows; data: of, max. */
  grantExceeded: "PFS_GRANT_EXCEEDED",

  /** The peer's role does not let it ask for this; data: type, operation, or job, or name. */
  notAllowed: "PFS_NOT_ALLOWED",
  /** The peer has as many of something as it may; data: max, of. */
  quota: "PFS_PEER_QUOTA",
  /** No such name, file or job. */
  notFound: "PFS_NOT_FOUND",
  /** A text is no name for a file; data: reason. */
  nameInvalid: "PFS_NAME_INVALID",
  /** A chunk is on no machine that answers; data: ref. */
  chunkMissing: "PFS_CHUNK_MISSING",
  /** A peer that was started again has lost chunks of a put that had not ended; data: ref. */
  putLost: "PFS_PUT_LOST",
  /** A peer sent other bytes than the ref names; data: ref. */
  chunkDamaged: "PFS_CHUNK_DAMAGED",
  /** A message with chunks is malformed; data: reason. */
  batchInvalid: "PFS_CHUNK_BATCH_INVALID",
} as const;
export type WireErrorCode = (typeof WireErrorCode)[keyof typeof WireErrorCode];

/** Why a peer was refused: `data.reason` of PFS_PEER_REFUSED. */
export const RefusalReason = {
  /** The port does not let in the key that the connection was made with: it is unknown, kept out, or has too many. */
  key: "unknown-key",
  /** The port does not hold the key that was expected of it, or is no PacketFS port. */
  server: "wrong-server",
  /** The signing key is in no entry of the allow list, or in one with another CURVE key. */
  identity: "unknown-identity",
  /** The machine's own key was revoked, whatever token it comes by. */
  revoked: "revoked",
  signature: "bad-signature",
  /** The allow list knows the key in another role than the one it asks for. */
  role: "wrong-role",
  /** The challenge was used before, or is another session's. */
  replayed: "replayed-hello",
  /** No version of the protocol in common. */
  version: "no-common-version",
  /** The peer chose its own routing id. */
  routing: "chosen-routing-id",
  /** A HELLO that makes no sense. */
  hello: "malformed-hello",
  /** The owner of the port said no. */
  declined: "declined",
} as const;
export type RefusalReason = (typeof RefusalReason)[keyof typeof RefusalReason];
