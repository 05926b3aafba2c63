import { setTimeout as sleep } from "node:timers/promises";

const LOOK_AGAIN_MS = 5;

/** Resolves when the condition holds. It looks again and again: for what tells nobody. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(LOOK_AGAIN_MS);
}
