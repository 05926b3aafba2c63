/** What a machine tells others of its lanes. */
import type { LanesInfo } from "../../runtime/contracts/lanes.ts";
import type { Machine } from "../../runtime/machine.ts";
import { LABEL_CHARACTERS_MAX } from "../limits.ts";

/** At most so many of them, whose programs' names are cut to what travels. */
export function lanesOf({ lanes }: Pick<Machine, "lanes">, lanesMax: number): LanesInfo {
  const info = lanes.info(lanesMax);
  return {
    ...info,
    lanes: info.lanes.map((lane) => ({ ...lane, program: lane.program.slice(0, LABEL_CHARACTERS_MAX) })),
  };
}
