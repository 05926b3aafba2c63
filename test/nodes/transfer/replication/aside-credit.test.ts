/** Credit where messages are placed aside of the receiver: each is granted anew once, whoever hears of it when. */
import { describe, expect, test } from "vitest";
import { TRANSFER_GRANTS_PER_WINDOW } from "../../../../nodes/limits.ts";
import { AsideCredit } from "../../../../nodes/transfer/replication/aside-credit.ts";
import { Random } from "../../../sim/random.ts";

const WINDOW = 8000;
const LEAST = WINDOW / TRANSFER_GRANTS_PER_WINDOW;

function begun(): AsideCredit {
  const credit = new AsideCredit();
  expect(credit.grantedBy({ run: 1, granted: WINDOW, window: WINDOW, aside: 0, waiting: 0 })).toBeUndefined();
  return credit;
}

describe("credit", () => {
  test("begins with what is asked for", () => {
    const credit = new AsideCredit();
    expect([credit.run, credit.granted]).toEqual([0, 0]);
    expect(
      credit.grantedBy({ run: 3, granted: WINDOW, window: WINDOW, aside: 0, waiting: 0 }),
    ).toBeUndefined();
    expect([credit.run, credit.granted]).toEqual([3, WINDOW]);
  });

  test("is granted for what was placed, a part of the window at a time", () => {
    const credit = begun();
    expect(credit.placed(LEAST - 1)).toBeUndefined();
    expect(credit.granted).toBe(WINDOW);
    expect(credit.placed(1)).toBe(WINDOW + LEAST);
    expect(credit.granted).toBe(WINDOW + LEAST);
    expect(credit.placed(1)).toBeUndefined();
  });

  test("counts what was placed once, whether the receiver knows of it or not", () => {
    const credit = begun();
    credit.placed(2 * LEAST);
    // It has heard of half of it, and has placed something else.
    const grant = { run: 1, granted: WINDOW + 3 * LEAST, window: WINDOW, aside: LEAST, waiting: 0 };
    expect(credit.grantedBy(grant)).toBe(WINDOW + 4 * LEAST);
    // And of all of it.
    expect(credit.grantedBy({ ...grant, granted: WINDOW + 4 * LEAST, aside: 2 * LEAST })).toBeUndefined();
  });

  test("grows with the window", () => {
    const credit = begun();
    credit.placed(LEAST / 2);
    const grant = { run: 1, granted: 3 * WINDOW, window: 3 * WINDOW, aside: 0, waiting: 0 };
    expect(credit.grantedBy(grant)).toBe(3 * WINDOW + LEAST / 2);
    expect(credit.placed(2 * LEAST)).toBeUndefined();
    expect(credit.placed(LEAST)).toBe(3 * WINDOW + 3.5 * LEAST);
  });

  test("of a new run has nothing of the one before, of which nothing is heard any more", () => {
    const credit = begun();
    credit.placed(3 * LEAST);
    expect(
      credit.grantedBy({ run: 2, granted: WINDOW, window: WINDOW, aside: 0, waiting: 0 }),
    ).toBeUndefined();
    expect([credit.run, credit.granted]).toEqual([2, WINDOW]);
    expect(
      credit.grantedBy({ run: 1, granted: 9 * WINDOW, window: WINDOW, aside: 3 * LEAST, waiting: 0 }),
    ).toBeUndefined();
    expect([credit.run, credit.granted]).toEqual([2, WINDOW]);
    expect(credit.placed(LEAST)).toBe(WINDOW + LEAST);
  });

  test("is never above what was placed and the window, and all of it comes, in whatever order each hears of the other", () => {
    const random = new Random(11);
    for (let times = 0; times < 300; times++) {
      const credit = begun();
      // What the receiver has placed itself, and of what was placed aside it knows.
      let [aside, here, known, sent] = [0, 0, 0, WINDOW];
      const grants: { granted: number; aside: number }[] = [];
      const tell = (granted: number | undefined): void => {
        if (granted === undefined) return;
        expect(granted).toBeGreaterThanOrEqual(sent + LEAST);
        expect(granted).toBeLessThanOrEqual(here + aside + WINDOW);
        sent = granted;
      };
      const receive = (): void => {
        const grant = grants.shift();
        if (grant !== undefined) tell(credit.grantedBy({ run: 1, window: WINDOW, waiting: 0, ...grant }));
      };
      for (let step = 0; step < 60; step++) {
        const cost = random.integer(1, LEAST);
        const what = random.integer(0, 3);
        if (what === 0) {
          aside += cost;
          tell(credit.placed(cost));
        }
        if (what === 1) here += cost;
        if (what === 2) {
          known = random.integer(known, aside);
          grants.push({ granted: here + known + WINDOW, aside: known });
        }
        if (what === 3) receive();
      }
      grants.push({ granted: here + known + WINDOW, aside: known });
      while (grants.length > 0) receive();
      expect(here + aside + WINDOW - sent).toBeLessThan(LEAST);
      expect(credit.granted).toBe(sent);
    }
  });
});
