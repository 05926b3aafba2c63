/**
 * The lines that match a regular expression, each with the byte where it begins in its file.
 *
 *   pfs put access.log
 *   pfs run examples/grep.ts access.log --args '{"pattern":"timeout|refused","flags":"i"}'
 *   pfs run examples/grep.ts access.log --args '{"pattern":"timeout"}' --out timeouts.log
 */
import { defineProgram, lines } from "packetfs";

interface Args {
  readonly pattern: string;
  readonly flags?: string;
}

export default defineProgram({
  input: lines(),
  yields: "bytes",
  init: (args: Args) => new RegExp(args.pattern, args.flags),
  map: (line, { state: pattern, offset, write }) => {
    if (pattern.test(line)) write(`${offset}:${line}\n`);
  },
});
