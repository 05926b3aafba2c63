import { expect, it } from "vitest";
import { ProcessTurns } from "../../../runtime/executor/process-turns.ts";

interface Bench {
  readonly turns: ProcessTurns;
  /** Those that have had their turn, in their order. */
  readonly begun: string[];
  /** What is called in capitals is to be alone. */
  readonly begin: (name: string) => void;
}

function bench(): Bench {
  const turns = new ProcessTurns();
  const begun: string[] = [];
  const begin = (name: string): void => {
    const turn = turns.begin(name === name.toUpperCase());
    if (turn === undefined) begun.push(name);
    else void turn.then(() => begun.push(name));
  };
  return { turns, begun, begin };
}

it("frames have their turns at once, and one that is to be alone waits for them and keeps others waiting", async () => {
  const { turns, begun, begin } = bench();
  const over = async (): Promise<string> => {
    turns.over();
    await Promise.resolve();
    return begun.join("");
  };
  for (const name of ["a", "b", "A", "c", "B", "d"]) begin(name);
  expect(begun.join("")).toBe("ab");
  expect(await over()).toBe("ab");
  expect(await over()).toBe("abA");
  begin("e");
  expect(await over()).toBe("abAB");
  expect(await over()).toBe("abABcde");
  begin("f");
  expect(begun.join("")).toBe("abABcdef");
});

it("nobody waits for a process that has ended", async () => {
  const { turns, begun, begin } = bench();
  for (const name of ["A", "B", "a"]) begin(name);
  turns.end();
  for (const name of ["C", "b"]) begin(name);
  await Promise.resolve();
  expect(begun.toSorted()).toEqual(["A", "B", "C", "a", "b"]);
});
