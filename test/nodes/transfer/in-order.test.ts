import { expect, test } from "vitest";
import { InOrder } from "../../../nodes/transfer/root-sink.ts";

test("work begins in its order, and what lets others pass is waited for by those who would be alone", async () => {
  const order = new InOrder();
  const log: string[] = [];
  const gates = new Map(["a", "b", "d"].map((name) => [name, Promise.withResolvers<void>()]));
  const beside = (name: string): Promise<void> =>
    order.run(async ({ letPass }) => {
      log.push(`${name} begins`);
      letPass();
      await gates.get(name)!.promise;
      log.push(`${name} ends`);
    });
  const all = [
    beside("a"),
    beside("b"),
    order.run(async ({ alone }) => {
      log.push("c begins");
      await alone();
      log.push("c is alone");
      throw new Error("it fails");
    }),
    beside("d"),
  ];
  const ended = Promise.allSettled(all);
  gates.get("d")!.resolve();
  gates.get("b")!.resolve();
  await all[1];
  expect(log).toEqual(["a begins", "b begins", "b ends", "c begins"]);
  gates.get("a")!.resolve();
  expect((await ended).map(({ status }) => status)).toEqual([
    "fulfilled",
    "fulfilled",
    "rejected",
    "fulfilled",
  ]);
  expect(log.slice(4)).toEqual(["a ends", "c is alone", "d begins", "d ends"]);
});
