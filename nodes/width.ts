/** How many packets with large inputs a machine works on at once: it says so among the features of its HELLO. */
const PREFIX = "width-";
const WIDTH_MAX = 4096;

export function widthFeature(width: number): string {
  return `${PREFIX}${width}`;
}

/** 0 for a machine that lends no workers, or says something else. */
export function widthOf(features: readonly string[]): number {
  const text = features.find((feature) => feature.startsWith(PREFIX))?.slice(PREFIX.length) ?? "";
  const width = /^[0-9]{1,4}$/.test(text) ? Number(text) : 0;
  return Math.min(width, WIDTH_MAX);
}
