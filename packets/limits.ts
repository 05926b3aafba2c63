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
/** Files of a directory that have more bytes are streams of their own; others stand one behind the other in its run. */
export const TREE_RUN_FILE_BYTES_MAX: number = 256 * 1024;
/** Entries of a directory and all below it. */
export const TREE_ENTRIES_MAX: number = 1024 * 1024;
/** Bytes of its manifest. */
export const TREE_MANIFEST_BYTES_MAX: number = 256 * 1024 * 1024;
/** Bytes of the name of a file in a directory, as the file systems of all common systems have it; */
export const TREE_NAME_BYTES_MAX = 255;
/** of a path within a tree, */
export const TREE_PATH_BYTES_MAX = 4096;
/** names in one, */
export const TREE_DEPTH_MAX = 512;
/** and bytes of what a symbolic link points to. */
export const TREE_TARGET_BYTES_MAX = 4095;
/** Owners that a manifest names. */
export const TREE_OWNERS_MAX = 4096;
/** Bytes of a line that packet code takes, without its separator. */
export const CODE_RECORD_BYTES_MAX: number = 1024 * 1024;
/** Bytes of what ends a line for packet code. */
export const CODE_SEPARATOR_BYTES_MAX = 4;
/** MessagePack metadata of one wire message. */
export const META_BYTES_MAX: number = 64 * 1024;
/** Chunk bytes of one wire message. */
export const MESSAGE_CHUNK_BYTES_MAX: number = 8 * 1024 * 1024;
/** Bytes of the chunks of all parts of a patch, */
export const PATCH_BYTES_MAX: number = MESSAGE_CHUNK_BYTES_MAX;
/** of those of one part, */
export const PATCH_PART_BYTES_MAX: number = CHUNK_BYTES_MAX;
/** and of what a part, or a patch's list, is written against; it is put together of so many ranges. */
export const PATCH_DICTIONARY_BYTES_MAX: number = 2 * 1024 * 1024;
export const PATCH_RANGES_MAX = 8;
/** Bytes that all parts of a patch are written against. */
export const PATCH_DICTIONARIES_BYTES_MAX: number = 128 * 1024 * 1024;
/** Packets of the streams of one patch. */
export const PATCH_STREAM_PACKETS_MAX: number = 4 * STREAM_PACKETS_MAX;
/** The segments of a difference have one byte for each so many of what it stands for, and so many more; and a number has so many. */
export const DIFFERENCE_BYTES_PER_SEGMENTS_BYTE = 8;
export const DIFFERENCE_SEGMENTS_BYTES = 64;
export const DIFFERENCE_NUMBER_BYTES_MAX = 5;
/** What a frame of zstd may ask its reader to keep, in bits: a window of 8 MiB. */
export const PATCH_WINDOW_BITS_MAX = 23;
