/**
 * A command that succeeds where the disk of `path` has at most so many bytes. Where a sandbox takes no notice of the size that
 * a disk is to have, whoever fills it takes all memory that there is.
 */
export function isSmallDisk(path: string, bytesMax: number): string[] {
  const script = `const { blocks, bsize } = require("node:fs").statfsSync(process.argv[1]);
    process.exit(blocks * bsize > ${bytesMax} ? 1 : 0);`;
  return [process.execPath, "-e", script, path];
}
