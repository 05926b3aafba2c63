/** Which of a machine's adapters are used, by what their drivers call them: that is all that tells one from another. */
import type { UnusedAccelerator } from "../contracts/kernels.ts";
import { ACCELERATORS_MAX } from "../limits.ts";

/** What CPUs imitate GPUs with, where they do not say so themselves. */
const SOFTWARE = /llvmpipe|lavapipe|softpipe|swiftshader|basic render|warp/i;

export const IMITATED = "it is a CPU that imitates a GPU, which is slower than using the CPU itself";

export interface ChosenAdapters {
  /** Their names, in their order: none is twice in it. */
  readonly names: readonly string[];
  readonly unused: readonly UnusedAccelerator[];
}

export function isSoftwareName(text: string): boolean {
  return SOFTWARE.test(text);
}

/** Of `names` as AdaptersMessage has them. CPUs that imitate a GPU are spoken of only where there is nothing else. */
export function chooseAdapters(names: readonly string[], isSoftwareUsed: boolean): ChosenAdapters {
  const real = names.filter((name) => isSoftwareUsed || !isSoftwareName(name));
  if (real.length === 0) {
    const imitated = [...new Set(names)];
    return { names: [], unused: imitated.map((label) => ({ label, reason: IMITATED })) };
  }
  const chosen: string[] = [];
  const unused: UnusedAccelerator[] = [];
  for (const name of real) {
    // One is opened by a part of its name, and the first that has it is.
    const found = names.find((other) => other.includes(name))!;
    if (name === "") unused.push({ label: "a GPU", reason: "its driver gives it no name to open it by" });
    else if (chosen.includes(name))
      unused.push({ label: name, reason: `another ${name} is used, and nothing tells the two apart here` });
    else if (found !== name)
      unused.push({
        label: name,
        reason: `whoever asks for it is given the ${found}, whose name has its own in it`,
      });
    else if (chosen.length === ACCELERATORS_MAX)
      unused.push({ label: name, reason: `no more than ${ACCELERATORS_MAX} GPUs of a machine are used` });
    else chosen.push(name);
  }
  return { names: chosen, unused };
}
