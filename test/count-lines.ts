/** A program that counts lines by what they are: many lines are many keys. */
import type { ProgramSource } from "../sdk/index.ts";

export const COUNT_LINES: ProgramSource = {
  source: `import { defineProgram, lines } from "packetfs";
export default defineProgram({
  input: lines(),
  yields: "groups",
  map(line: string, { emit }) {
    emit(line, 1);
  },
  combine: (a: number, b: number) => a + b,
});`,
};
