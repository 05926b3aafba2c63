import { randomInt } from "node:crypto";
import { Dealer, Request } from "zeromq";
import type { Context, Router } from "zeromq";
import { unbind } from "./sockets.ts";

/** How far each of the two ways goes at most: together they make a quarter of a million starting points. */
const STEPS_MAX = 512;
const ENDPOINT = "inproc://packetfs.scatter";

/**
 * Creates a ROUTER whose next routing id is hard to guess. libzmq starts its counter with `rand()`, which nobody
 * seeded, so a fresh process always begins with the same id; and a peer that chose the very id that is assigned next ends
 * the process (see `Door`). Who guesses wrong is thrown out, so a guess must be a poor bet: an unknown number of random
 * numbers is used up, and the counter is moved on by an unknown number of connections.
 */
export function scatterRoutingIds(context: Context, createRouter: () => Router): Router {
  for (let steps = randomInt(STEPS_MAX); steps > 0; steps--) new Request({ context, linger: 0 }).close();
  const router = createRouter();
  router.bindSync(ENDPOINT);
  const dealer = new Dealer({ context, linger: 0 });
  for (let steps = randomInt(STEPS_MAX); steps > 0; steps--) dealer.connect(ENDPOINT);
  dealer.close();
  unbind(router, ENDPOINT);
  return router;
}
