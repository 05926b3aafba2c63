/** What an executor process was not meant to have open. */
import { closeSync, readFileSync, readdirSync } from "node:fs";

/**
 * Closes the descriptors above `last` that the node was itself started with, whoever opened them. What Node has opened since
 * says that it closes on execution, and what was inherited cannot say so. Stands by itself: whoever tries the walls out
 * carries its text to where there is nothing else.
 */
export function closeInherited(last: number): void {
  /** O_CLOEXEC. */
  const CLOSES_ON_EXECUTION = 0o2_000_000;
  // Others do not tell. Where Linux does not, this process must not go on: its node says that they are closed.
  if (process.platform !== "linux") return;
  const names = readdirSync("/proc/self/fd");
  for (const name of names.filter((each) => Number(each) > last)) {
    try {
      const flags = /^flags:\s+([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${name}`, "latin1"))?.[1];
      if ((Number.parseInt(flags ?? "", 8) & CLOSES_ON_EXECUTION) === 0) closeSync(Number(name));
    } catch {
      // It was the folder's own, and is closed already.
    }
  }
}
