/** What `work` resolves with, or a rejection with the signal's reason as soon as there is one, whatever the work does then. */
export function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  return signal === undefined ? work : unlessAbortedBy(signal, work);
}

async function unlessAbortedBy<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = (): void => reject(signal.reason as Error);
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
    // Nobody may be there any more when either of them fails.
    work.catch(() => {});
    aborted.catch(() => {});
  }
}
