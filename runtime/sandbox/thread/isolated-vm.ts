/**
 * isolated-vm, by the path of its binary where this is a thread that was told: behind walls there are no links, by which some
 * package managers have packages found, and looking for it takes each start longer than once.
 */
import { createRequire } from "node:module";
import { workerData } from "node:worker_threads";
import type IsolatedVm from "isolated-vm";

/** What a thread of an executor process is given. */
export interface ThreadData {
  readonly isolatedVm: string;
}

const require = createRequire(import.meta.url);
const { isolatedVm } = (workerData ?? {}) as Partial<ThreadData>;

export const ivm: typeof IsolatedVm =
  isolatedVm === undefined
    ? (require("isolated-vm") as typeof IsolatedVm)
    : (require(isolatedVm) as { readonly ivm: typeof IsolatedVm }).ivm;
