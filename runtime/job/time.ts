/** Time as jobs see it: injected, so that tests can tell it. */

/** Runs `run` once after so many milliseconds, unless the returned function is called before. */
export type SetTimer = (run: () => void, milliseconds: number) => () => void;

/** Milliseconds of the process's monotonic clock. */
export function monotonic(): number {
  return performance.now();
}

export function processTimer(run: () => void, milliseconds: number): () => void {
  const timer = setTimeout(run, milliseconds);
  return () => clearTimeout(timer);
}
