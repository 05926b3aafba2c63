/** A port whose own process is busy while somebody connects: nobody is turned away for that, nor kept out. */
import { setImmediate as soon } from "node:timers";
import { expect, test } from "vitest";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import { list, openNetwork } from "./network.ts";

const BUSY_MS = 1_500;
/** More often than a key may fail to appear before it is kept out. */
const CONNECTIONS = 4;

test("who connects while the port's process is busy is let in, each time", async () => {
  const network = await openNetwork();
  const identity = Identity.create();
  list(network.allowList, identity, "client");
  const find = network.allowList.byCurveKey.bind(network.allowList);
  let looks = 0;
  network.allowList.byCurveKey = (curveKey) => {
    const entry = find(curveKey);
    if (entry?.id === identity.id) {
      looks++;
      // Between the answer to the key and the news of its connection.
      soon(standStill);
    }
    return entry;
  };
  for (let index = 0; index < CONNECTIONS; index++) {
    const near = await network.dial({ identity, role: "client" });
    const far = await network.accepted(near);
    expect(far.peer.id).toBe(identity.id);
    await near.close();
    await far.closed;
  }
  expect(looks).toBeGreaterThanOrEqual(CONNECTIONS);
  await network.close();
});

function standStill(): void {
  const until = performance.now() + BUSY_MS;
  while (performance.now() < until) continue;
}
