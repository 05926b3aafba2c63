/** What a machine tells others of its lanes, and of what it could run kernels on and does not. */
import type { Machine } from "../../runtime/machine.ts";
import { cutUnused } from "../accelerator-info.ts";
import { LABEL_CHARACTERS_MAX } from "../limits.ts";
import type { NodeLanes } from "../messages.ts";

/** At most so many lanes. Texts are cut to what travels. */
export function lanesOf(
  { lanes, unusedAccelerators }: Pick<Machine, "lanes" | "unusedAccelerators">,
  lanesMax: number,
): NodeLanes {
  const unused = cutUnused(unusedAccelerators);
  const info = lanes.info(lanesMax);
  return {
    ...info,
    lanes: info.lanes.map((lane) => ({ ...lane, program: lane.program.slice(0, LABEL_CHARACTERS_MAX) })),
    ...(unused.length === 0 ? {} : { unusedAccelerators: unused }),
  };
}
