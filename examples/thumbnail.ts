/**
 * Raw video, 1920 × 1080 RGB, to raw thumbnails of it, 240 × 135 grey: one pixel for each square of 8 × 8.
 * A record is eight rows of pixels, so frames can be cut anywhere between, and worked on wherever they are.
 *
 *   ffmpeg -i film.mp4 -f rawvideo -pix_fmt rgb24 - | pfs put - --name film.rgb
 *   pfs run examples/thumbnail.ts film.rgb --out film.grey
 *   pfs get film.grey -o - | ffplay -f rawvideo -pix_fmt gray -video_size 240x135 -
 */
import { bytes, defineProgram } from "packetfs";

const WIDTH = 1920;
const SQUARE = 8;
const CHANNELS = 3;
const ROW_BYTES = WIDTH * CHANNELS;
const THUMBNAIL_WIDTH = WIDTH / SQUARE;

// How bright each channel looks (ITU-R BT.601), in 256ths.
const RED = 77;
const GREEN = 150;
const BLUE = 29;

export default defineProgram({
  input: bytes(ROW_BYTES * SQUARE),
  yields: "bytes",
  init: () => ({ sums: new Uint32Array(THUMBNAIL_WIDTH), row: new Uint8Array(THUMBNAIL_WIDTH) }),
  map: (rows, { state: { sums, row }, write }) => {
    sums.fill(0);
    for (let y = 0; y < SQUARE; y++) {
      let at = y * ROW_BYTES;
      for (let x = 0; x < WIDTH; x++) {
        sums[Math.floor(x / SQUARE)]! += RED * rows[at]! + GREEN * rows[at + 1]! + BLUE * rows[at + 2]!;
        at += CHANNELS;
      }
    }
    for (let x = 0; x < THUMBNAIL_WIDTH; x++) row[x] = sums[x]! / (256 * SQUARE * SQUARE);
    write(row);
  },
});
