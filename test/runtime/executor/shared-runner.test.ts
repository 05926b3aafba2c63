/** Numbers of lanes in the runner that they share; what it runs is shown by many-lanes.test.ts. */
import { expect, it } from "vitest";
import { LANES_MAX } from "../../../packets/limits.ts";
import type { LanesOfProgram, LocalLane } from "../../../runtime/executor/local-lane.ts";
import { RunnerPlaces } from "../../../runtime/executor/runner-places.ts";
import { SharedRunner } from "../../../runtime/executor/shared-runner.ts";

const nothing = (): never => {
  throw new Error("nothing runs here");
};
const program: LanesOfProgram = {
  openWriter: nothing,
  newRunner: nothing,
  shared: nothing,
  places: new RunnerPlaces(() => false),
  closed: nothing,
};

it("a closed lane keeps its number while packets of it are under way, and another has none where all are taken", async () => {
  const runner = new SharedRunner(program, nothing);
  const lane = {} as LocalLane;
  const routes = Array.from({ length: LANES_MAX }, () => runner.join(lane, 1)!);
  expect(new Set(routes.map(({ number }) => number)).size).toBe(LANES_MAX);
  expect(runner.join(lane, 1)).toBe(undefined);
  const [first, second] = routes;
  first!.inFlight = 1;
  await first!.leave();
  expect(runner.join(lane, 1)).toBe(undefined);
  await second!.leave();
  expect(runner.join(lane, 1)?.number).toBe(second!.number);
});
