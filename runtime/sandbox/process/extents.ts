/**
 * Where a frame's inputs are: 4 float64 per packet, in the frame's order.
 *
 *   0  offset  where the input stands in the window
 *   1  length  its bytes, the prefix included
 *   2  place   where the first byte behind the prefix stands in its file: what `context.offset` counts from
 *   3  prefix  bytes at the beginning that are not of that place: the header record of a CSV
 */
export const EXTENT_NUMBERS = 4;
