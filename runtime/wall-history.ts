/** Which walls have stood on this machine, kept beside its store: a machine that has lost one is not to do so silently. */
import { readFile } from "node:fs/promises";
import * as v from "valibot";
import { replaceFile } from "./durable-file.ts";
import { namesOfStanding } from "./sandbox/process/wall-states.ts";
import type { WallState } from "./sandbox/process/wall-states.ts";

/** Its name in a store's directory. Without it nothing is known to have stood. */
export const WALL_HISTORY_FILE = "walls.json";

const history = v.object({ stood: v.array(v.string()) });

export class WallHistory {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  /** The same states; those of walls that are missing, and stood once, say so. */
  async compare(states: readonly WallState[]): Promise<WallState[]> {
    const stood = await this.#read();
    return states.map((wall) =>
      wall.state === "missing" && stood.includes(wall.name) ? { ...wall, stood: true } : wall,
    );
  }

  /** A file that cannot be written costs the memory, and nothing else. */
  async remember(states: readonly WallState[]): Promise<void> {
    const stood = await this.#read();
    const added = namesOfStanding(states).filter((name) => !stood.includes(name));
    if (added.length === 0) return;
    const text = `${JSON.stringify({ stood: [...stood, ...added] })}\n`;
    await replaceFile(this.#file, text).catch(() => undefined);
  }

  async #read(): Promise<readonly string[]> {
    try {
      return v.parse(history, JSON.parse(await readFile(this.#file, "utf8"))).stood;
    } catch {
      return [];
    }
  }
}
