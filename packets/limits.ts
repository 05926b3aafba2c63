/** Every limit of the packet language on one page, the unit last in the name. */

/** A chunk is 1 byte to this many. */
export const CHUNK_BYTES_MAX: number = 1024 * 1024;
/** Packets in one sub-stream, its HALT included: a stream is a chunk too. */
export const STREAM_PACKETS_MAX: number = CHUNK_BYTES_MAX / 64;
/** CALL within CALL. Three levels of 1,024 packets each name 64 TiB. */
export const CALL_DEPTH_MAX = 8;
/** Packets in one frame that crosses a border. */
export const FRAME_PACKETS_MAX = 4096;
/** microVMs of a node. */
export const LANES_MAX = 65_535;
/** Bytes of a name in the catalog, UTF-8. */
export const NAME_BYTES_MAX = 1024;
/** Bytes of a line that packet code takes, without its separator. */
export const CODE_RECORD_BYTES_MAX: number = 1024 * 1024;
/** Bytes of what ends a line for packet code. */
export const CODE_SEPARATOR_BYTES_MAX = 4;
/** MessagePack metadata of one wire message. */
export const META_BYTES_MAX: number = 64 * 1024;
/** Chunk bytes of one wire message. */
export const MESSAGE_CHUNK_BYTES_MAX: number = 8 * 1024 * 1024;
