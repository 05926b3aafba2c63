/** How many lanes of each machine are asked for, whoever is asked. */
import { LANES_LISTED_MAX } from "../nodes/limits.ts";
import { UsageError } from "./errors.ts";
import type { LanesOptions } from "./packetfs.ts";

const LANES_LISTED = 100;

/** Throws PFS_USAGE. */
export function lanesLimit({ limit = LANES_LISTED }: LanesOptions): number {
  if (Number.isInteger(limit) && limit >= 0 && limit <= LANES_LISTED_MAX) return limit;
  throw new UsageError(`limit is a whole number of lanes up to ${LANES_LISTED_MAX}, not ${String(limit)}`);
}
