/**
 * Who may ask for what, in one table: the types of messages that a role may send to whoever serves it, and for types that ask for
 * several things, which of them. What is not here is refused, whatever services there are.
 */
import { MessageType, messageTypeName } from "../../packets/envelope.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import { Role } from "../wire/link.ts";
import type { WireMessage } from "../wire/link.ts";

type Asking = Pick<WireMessage, "type" | "meta">;
/** No operation's name is longer, and what a peer says is repeated to it in an error. */
const OPERATION_CHARACTERS_SHOWN = 32;

/** What a message of a type asks for: its metadata's `op`; of WANT, "claim" when it is part of a put. */
type Operations = readonly string[] | "all";
type Permissions = ReadonlyMap<MessageType, Operations>;

const READER: readonly (readonly [MessageType, Operations])[] = [
  [MessageType.WANT, ["ask"]],
  [MessageType.FILE_REQUEST, "all"],
  [MessageType.NAME, ["resolve", "history", "find-roots", "list"]],
  [MessageType.JOB, ["list"]],
  // Who is there, and what runs there; letting in again who is barred is for others.
  [MessageType.MEMBERS, ["", "lanes"]],
];

/** At a node, under a grant of its hub. */
const GRANTED: readonly (readonly [MessageType, Operations])[] = [
  [MessageType.LOAD, "all"],
  [MessageType.EXEC, "all"],
  [MessageType.CANCEL, "all"],
  [MessageType.GRANT, ["renew"]],
];

const PERMISSIONS: Readonly<Record<Role, Permissions>> = {
  reader: new Map(READER),
  submitter: new Map<MessageType, Operations>([
    ...READER,
    // A program is stored before it runs, under no name. Names are given by jobs alone.
    [MessageType.WANT, ["ask", "claim"]],
    [MessageType.STORE, "all"],
    [MessageType.NAME, ["resolve", "history", "find-roots", "list", "flush", "end"]],
    [MessageType.JOB, ["list", "run", "load", "exec", "unload", "grant", "cancel", "received", "return"]],
    ...GRANTED,
  ]),
  client: new Map<MessageType, Operations>([
    [MessageType.WANT, "all"],
    [MessageType.FILE_REQUEST, "all"],
    [MessageType.STORE, "all"],
    [MessageType.NAME, "all"],
    [MessageType.JOB, "all"],
    [MessageType.MEMBERS, "all"],
    [MessageType.MAINTENANCE, "all"],
    ...GRANTED,
  ]),
  // Of the hub, or of another node. Nobody keeps chunks for its puts: where it says "claim", it asks.
  node: new Map<MessageType, Operations>([
    [MessageType.WANT, "all"],
    [MessageType.FILE_REQUEST, "all"],
    [MessageType.RETURN, "all"],
    [MessageType.LOG, "all"],
  ]),
  hub: new Map<MessageType, Operations>([
    [MessageType.WANT, "all"],
    [MessageType.FILE_REQUEST, "all"],
    [MessageType.STORE, "all"],
    [MessageType.NAME, "all"],
    [MessageType.MAINTENANCE, "all"],
    [MessageType.MEMBERS, "all"],
    [MessageType.LOAD, "all"],
    [MessageType.EXEC, "all"],
    [MessageType.KEEP, "all"],
    [MessageType.CANCEL, "all"],
    [MessageType.GRANT, ["withdraw"]],
  ]),
  // Never a session's.
  [Role.join]: new Map(),
};

/** What may come without a number, whoever may say it. */
const NOTIFICATIONS: Permissions = new Map<MessageType, Operations>([
  [MessageType.EXEC, "all"],
  [MessageType.CANCEL, "all"],
  [MessageType.RETURN, "all"],
  [MessageType.LOG, "all"],
  [MessageType.MEMBERS, [""]],
  [MessageType.JOB, ["received", "return"]],
  [MessageType.GRANT, ["withdraw"]],
]);

/** Whether a role may ask for what the message asks for. */
export function mayAsk(role: Role, message: Asking): boolean {
  return includes(PERMISSIONS[role], message);
}

/** Throws PFS_NOT_ALLOWED where a role may not ask for what the message asks for. */
export function assertMayAsk(role: Role, message: Asking): void {
  if (mayAsk(role, message)) return;
  const text = `a ${role} may not ${describeAsked(message)}; SECURITY.md says what each role may`;
  const { type } = message;
  throw new WireError(WireErrorCode.notAllowed, text, { type, operation: operationOf(message) });
}

/** Whether this is said and not asked: nobody waits for an answer to it. */
export function isNotification(message: Asking & Pick<WireMessage, "requestId">): boolean {
  return message.requestId === 0 && includes(NOTIFICATIONS, message);
}

function includes(permissions: Permissions, message: Asking): boolean {
  const operations = permissions.get(message.type);
  if (operations === undefined || operations === "all") return operations !== undefined;
  return operations.includes(operationOf(message));
}

/** The same in the words of people: what a role may not do. */
export function describeAsked(message: Asking): string {
  const operation = operationOf(message);
  const { type } = message;
  switch (type) {
    case MessageType.WANT:
      // The first that a put asks for, and a run of a program that is not stored yet.
      return operation === "claim" ? "store files or run programs" : "read files";
    case MessageType.FILE_REQUEST:
      return "read files";
    case MessageType.STORE:
      return "store files or run programs";
    case MessageType.NAME:
      if (operation === "set") return "store files under names";
      return operation === "remove" ? "remove files" : "use names so";
    case MessageType.JOB:
      return operation === "cancel" ? "end jobs" : "run programs";
    case MessageType.MEMBERS:
      return "let barred nodes in again";
    case MessageType.MAINTENANCE:
      return operation === "gc" ? "free space" : "have all stores verified";
    default:
      return `ask for ${messageTypeName(type)} here`;
  }
}

/** What a message asks for among the things of its type, as it says itself; an empty text where there is one thing only. */
export function operationOf({ type, meta }: Asking): string {
  const said = typeof meta === "object" && meta !== null ? meta : {};
  if (type === MessageType.WANT) return "put" in said ? "claim" : "ask";
  return "op" in said && typeof said.op === "string" ? said.op.slice(0, OPERATION_CHARACTERS_SHOWN) : "";
}
