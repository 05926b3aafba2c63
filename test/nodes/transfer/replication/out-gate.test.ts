/** Messages that were made ahead of credit: none leaves before it is granted, all keep their order, and none is forgotten. */
import { describe, expect, test } from "vitest";
import { OutGate } from "../../../../nodes/transfer/replication/out-gate.ts";
import { Random } from "../../../sim/random.ts";

function gate(): { gate: OutGate<string>; passed: string[]; dropped: string[] } {
  const [passed, dropped]: [string[], string[]] = [[], []];
  const options = {
    pass: (message: string) => void passed.push(message),
    drop: (message: string) => void dropped.push(message),
  };
  return { gate: new OutGate<string>(options), passed, dropped };
}

describe("a gate", () => {
  test("holds what is not granted, and what comes behind it", () => {
    const { gate: out, passed } = gate();
    const of = { transfer: 1, run: 1, granted: 100 };
    out.send({ ...of, at: 0 }, "start");
    out.send({ ...of, at: 60 }, "one");
    out.send({ ...of, at: 120 }, "two");
    out.send({ ...of, at: 180 }, "three");
    out.send({ ...of, at: 0 }, "complete");
    expect(passed).toEqual(["start", "one"]);
    out.granted(1, 1, 119);
    out.granted(2, 1, 1000);
    out.granted(1, 2, 1000);
    expect(passed).toEqual(["start", "one"]);
    out.granted(1, 1, 120);
    expect(passed).toEqual(["start", "one", "two"]);
    out.granted(1, 1, 180);
    expect(passed).toEqual(["start", "one", "two", "three", "complete"]);
  });

  test("holds up no other transfer", () => {
    const { gate: out, passed } = gate();
    out.send({ transfer: 1, run: 1, at: 10, granted: 0 }, "held");
    out.send({ transfer: 2, run: 1, at: 10, granted: 10 }, "free");
    expect(passed).toEqual(["free"]);
  });

  test("believes the newest of what was granted, whoever says it", () => {
    const { gate: out, passed } = gate();
    out.send({ transfer: 1, run: 1, at: 10, granted: 0 }, "one");
    out.granted(1, 1, 30);
    out.send({ transfer: 1, run: 1, at: 20, granted: 0 }, "two");
    out.send({ transfer: 1, run: 1, at: 50, granted: 50 }, "three");
    expect(passed).toEqual(["one", "two", "three"]);
  });

  test("drops what is of a run before, or of a transfer that is over", () => {
    const { gate: out, passed, dropped } = gate();
    out.send({ transfer: 1, run: 1, at: 10, granted: 0 }, "old");
    out.send({ transfer: 1, run: 2, at: 0, granted: 5 }, "start");
    out.send({ transfer: 1, run: 1, at: 0, granted: 100 }, "late");
    out.send({ transfer: 1, run: 2, at: 10, granted: 5 }, "new");
    expect([passed, dropped]).toEqual([["start"], ["old", "late"]]);
    out.over(1);
    out.over(1);
    expect([passed, dropped]).toEqual([["start"], ["old", "late", "new"]]);
  });

  test("says of each message once what became of it, whatever happens", () => {
    const random = new Random(7);
    for (let times = 0; times < 200; times++) {
      const { gate: out, passed, dropped } = gate();
      let granted = 0;
      const sent = ["0"];
      out.send({ transfer: 1, run: 1, at: 0, granted }, "0");
      let at = 0;
      for (let step = 0; step < 40; step++) {
        if (random.chance(0.6)) {
          at += random.integer(1, 50);
          sent.push(`${at}`);
          out.send({ transfer: 1, run: 1, at, granted: random.integer(0, granted) }, `${at}`);
        } else out.granted(1, 1, (granted += random.integer(0, 80)));
        expect(passed).toEqual(sent.filter((message) => Number(message) <= granted));
      }
      out.over(1);
      expect([...passed, ...dropped]).toEqual(sent);
    }
  });
});
