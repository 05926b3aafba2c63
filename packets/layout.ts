/**
 * The 64 bytes of a packet. Numbers, sizes, offsets and names stand here and nowhere else; SPEC.md is this file in prose
 * and a test keeps the two equal. All integers are little-endian; integers above 2^53 - 1 are invalid.
 *
 *   OFFSET SIZE FIELD
 *   0      1    op       what to do
 *   1      1    flags    bits defined per op
 *   2      2    lane     which microVM, 0 = none
 *   4      4    check    CRC-32 of the packet with this field read as zero
 *   8      8    at       position in the output, task index, or packet count (HALT)
 *   16     8    length   output bytes (input bytes for EXEC)
 *   24     8    from     where in the source to begin, or the error code (FAULT)
 *   32     32   ref      SHA-256 of the source, or the inline payload
 */
export const PACKET_BYTES = 64;
export const REF_BYTES = 32;
export const INLINE_BYTES_MAX = 32;

export const Offset = {
  op: 0,
  flags: 1,
  lane: 2,
  check: 4,
  at: 8,
  length: 16,
  from: 24,
  ref: 32,
} as const;

export const Op = {
  NOP: 0,
  DATA: 1,
  FILL: 2,
  COPY: 3,
  CALL: 4,
  LOAD: 5,
  EXEC: 6,
  RETURN: 7,
  FAULT: 8,
  HALT: 9,
} as const;
export type Op = (typeof Op)[keyof typeof Op];
export type OpName = keyof typeof Op;

/** `OP_NAMES[op]` is the op's name, or undefined for a number that is no op. */
export const OP_NAMES: readonly OpName[] = Object.keys(Op) as OpName[];

/** Flag bits, per op. FILL keeps its pattern's size (1..32) in the whole flags byte instead. */
export const Flag = {
  /** LOAD, RETURN, FAULT: `ref` holds the bytes themselves. */
  INLINE: 1,
  /** EXEC, RETURN: `ref` names a stream, not a chunk. */
  STREAM: 2,
  /** EXEC: the range is whole records. */
  WHOLE: 4,
  /** HALT: `ref` is the SHA-256 of the whole output. */
  DIGEST: 1,
  /** HALT: the total output is not known yet (derived files); `length` is zero. */
  OPEN: 2,
  /** HALT: the output begins with the manifest of a directory (tree.ts), whose files' bytes follow. */
  TREE: 4,
} as const;

/** The flag bits that each op may set. */
export const FLAGS_ALLOWED: Readonly<Record<OpName, number>> = {
  NOP: 0,
  DATA: 0,
  FILL: 0xff,
  COPY: 0,
  CALL: 0,
  LOAD: Flag.INLINE,
  EXEC: Flag.STREAM | Flag.WHOLE,
  RETURN: Flag.INLINE | Flag.STREAM,
  FAULT: Flag.INLINE,
  HALT: Flag.DIGEST | Flag.OPEN | Flag.TREE,
};

if (Offset.ref + REF_BYTES !== PACKET_BYTES || Offset.from + 8 !== Offset.ref)
  throw new Error("packet layout is broken");
if (OP_NAMES.some((name, index) => Op[name] !== index))
  throw new Error("op numbers must be dense and in order");
