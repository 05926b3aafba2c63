/** The picture that the demo ends with. */
import { stripVTControlCharacters } from "node:util";
import { expect, test } from "vitest";
import { drawPicture, PICTURE_HEIGHT, PICTURE_WIDTH } from "../../../sdk/cli/demo/picture.ts";

/** A disc that belongs to the set, amid rings whose points have ever smaller values. */
const disc = new Uint8Array(PICTURE_WIDTH * PICTURE_HEIGHT).map((_, index) => {
  const x = (index % PICTURE_WIDTH) - PICTURE_WIDTH / 2;
  const y = Math.floor(index / PICTURE_WIDTH) - PICTURE_HEIGHT / 2;
  const distance = Math.hypot(x + 0.5, y + 0.5);
  return distance < 300 ? 0 : Math.max(1, 255 - Math.floor(distance / 4));
});

test("a picture is drawn in characters, the darker the longer a point stays", () => {
  const lines = drawPicture(disc, false);
  expect(lines.length).toBeLessThanOrEqual(24);
  for (const line of lines) expect(line.length).toBeLessThanOrEqual(76);
  const middle = lines[lines.length >> 1]!;
  expect(middle).toMatch(/^ *\.+:+-*[=+]*.*@{20,}.*[+=]*-*:+\.+$/);
  expect(lines[0]).not.toContain("@");
  const inSet = lines.map((line) => line.split("@").length - 1);
  expect(inSet.toReversed()).toEqual(inSet);
  expect(Math.max(...inSet)).toBe(inSet[lines.length >> 1]);
});

test("a picture is drawn in colours, with two cells in each character, and leaves none behind", () => {
  const lines = drawPicture(disc, true);
  const plain = drawPicture(disc, false);
  expect(lines).toHaveLength(plain.length);
  for (const line of lines) {
    expect(stripVTControlCharacters(line)).toMatch(/^▀{64}$/);
    expect(line.endsWith("\u001b[0m")).toBe(true);
  }
  // 16 is black.
  expect(lines[lines.length >> 1]).toContain("\u001b[38;5;16;48;5;16m");
  expect(lines[0]).not.toContain("5;16;");
});
