/**
 * What a message between nodes means. Numbers are never used again for something else; a new type takes the next one.
 */
export const MessageType = {
  // A connection begins.
  HELLO: 1,
  WELCOME: 2,
  CHALLENGE: 3,
  // Files by name.
  FILE_REQUEST: 4,
  FILE_DATA: 5,
  FILE_COMPLETE: 6,
  // Chunks by ref.
  WANT: 7,
  HAVE: 8,
  // Programs and their packets.
  LOAD: 9,
  LOADED: 10,
  EXEC: 11,
  RETURN: 12,
  LOG: 13,
  CANCEL: 14,
  // The catalog and jobs of a hub.
  NAME: 15,
  JOB: 16,
  JOB_EVENT: 17,
  // The connection itself.
  PING: 18,
  PONG: 19,
  ERROR: 20,
  CREDIT: 21,
  MEMBERS: 22,
  OK: 23,
  // Chunks to keep.
  STORE: 24,
  STORED: 25,
  // Results to keep.
  KEEP: 26,
  // A store's verify and gc.
  MAINTENANCE: 27,
  // What a client may run at a node without its hub in between.
  GRANT: 28,
  // A connection of its own for many bytes.
  BULK: 29,
} as const;
export type MessageType = (typeof MessageType)[keyof typeof MessageType];
export type MessageTypeName = keyof typeof MessageType;

/** A class of messages never waits for a class with a higher number. */
export const Priority = { control: 0, interactive: 1, bulk: 2 } as const;
export type Priority = (typeof Priority)[keyof typeof Priority];

const NAMES: ReadonlyMap<number, MessageTypeName> = new Map(
  Object.entries(MessageType).map(([name, type]) => [type, name as MessageTypeName]),
);

export function isMessageType(type: number): type is MessageType {
  return NAMES.has(type);
}

/** The type's name for people; a number that is no type is shown as it is. */
export function messageTypeName(type: number): string {
  return NAMES.get(type) ?? `type ${type}`;
}

if (NAMES.size !== Object.keys(MessageType).length) throw new Error("two message types share a number");
