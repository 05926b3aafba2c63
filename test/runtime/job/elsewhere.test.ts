/** One node is not the end of a job: what it gets wrong is done elsewhere, and who keeps getting it wrong is barred. */
import { describe, expect, test } from "vitest";
import { FaultCode } from "../../../packets/faults.ts";
import type { JobOutcome } from "../../../runtime/contracts/jobs.ts";
import { JobError, JobErrorCode } from "../../../runtime/errors.ts";
import type { Entry } from "../../../runtime/program/program.ts";
import type { Waiting } from "./scripted-executor.ts";
import { ScriptedWorld } from "./scripted-world.ts";

/** More than fits into an answer, so that it is a chunk of the executor that made it. */
function long(text: string): string {
  return text.padEnd(40, ".");
}

/** What a real program would: maps yield their range, everything above the ranges of its input. */
function ranges({ packet, entry }: Waiting): string {
  return entry === "finish" ? '"result"' : long(`${entry} ${packet.at}`);
}

/** Lets everybody work until the job has an end. */
async function workAll(
  world: ScriptedWorld,
  running: Promise<JobOutcome>,
  work: (rounds: number) => void,
): Promise<JobOutcome> {
  let isOver = false;
  const ended = running.finally(() => (isOver = true));
  ended.catch(() => {});
  for (let rounds = 0; !isOver && rounds < 2_000; rounds++) {
    work(rounds);
    await world.pass(50);
  }
  return await ended;
}

const refuse = async (): Promise<void> => {
  throw new JobError(JobErrorCode.invalidProgram, "I do not like it");
};

describe("a node that leaves what it is asked without a word", () => {
  test("gets no packets while it does, as long as there is another one", async () => {
    const world = new ScriptedWorld();
    const silent = world.add("silent", {}, 8);
    const good = world.add("good");
    silent.isSuspect = true;
    const spec = { inputs: [await world.putFile("x", 2_000)], splitBytes: 100 };
    const first = world.run(spec);
    const { value } = await workAll(world, first, () => good.answerAll(ranges));
    expect(value).toBe("result");
    expect(silent.lanes).toEqual([]);
    silent.isSuspect = false;
    let answered = 0;
    await workAll(world, world.run(spec), () => {
      answered += silent.waiting.length;
      for (const executor of [silent, good]) executor.answerAll(ranges);
    });
    expect(answered).toBeGreaterThan(0);
  });
});

describe("one node is not the end", () => {
  test("a program that one executor refuses runs on another one", async () => {
    const world = new ScriptedWorld();
    world.add("liar", { loaded: refuse });
    const good = world.add("good");
    const running = world.run({ inputs: [await world.putFile("x", 200)], splitBytes: 100 });
    const { value, statistics } = await workAll(world, running, () => good.answerAll(ranges));
    expect(value).toBe("result");
    expect(statistics.notes.join()).toContain("I do not like it");
  });

  test("a program that all refuse, or three of them, is refused at once", async () => {
    for (const executors of [1, 2, 3, 5]) {
      const world = new ScriptedWorld();
      const refusals: string[] = [];
      for (let made = 0; made < executors; made++) {
        const loaded = async (entry: Entry): Promise<void> => {
          refusals.push(entry);
          await refuse();
        };
        world.add(`n${made}`, { loaded });
      }
      const running = world.run({ inputs: [await world.putFile("x", 1)] });
      await expect(running).rejects.toMatchObject({
        code: "PFS_PROGRAM_INVALID",
        message: "I do not like it",
      });
      expect(refusals.filter((entry) => entry === "map")).toHaveLength(Math.min(executors, 3));
      expect(world.now).toBe(0);
    }
  });

  test("a task that two executors fail goes to a third", async () => {
    const world = new ScriptedWorld();
    const bad = [world.add("bad 1"), world.add("bad 2")];
    const good = world.add("good");
    const running = world.run({ inputs: [await world.putFile("x", 900)], splitBytes: 100 });
    const { value } = await workAll(world, running, (rounds) => {
      for (const { waiting } of bad) {
        for (const { lane, packet } of waiting.splice(0))
          lane.fault(packet, rounds % 2 === 0 ? 10 : (99 as FaultCode));
      }
      if (rounds > 5) good.answerAll(ranges);
    });
    expect(value).toBe("result");
  });

  test("results that are nowhere are made again by others, and who gave them gets no more of that program", async () => {
    for (const yields of ["value", "bytes"] as const) {
      const world = new ScriptedWorld();
      const liar = world.add("liar");
      const good = world.add("good");
      const input = await world.putFile("x", 6400);
      const running = world.run(
        { inputs: [input], splitBytes: 100, out: "out" },
        { yields, hasCombine: false },
      );
      const { statistics } = await workAll(world, running, () => {
        liar.answerAll(({ packet }) => long(`lie ${packet.at}`));
        liar.chunks.clear();
        for (const { lane, packet, entry } of good.waiting.splice(0)) {
          if (entry === "map") lane.answer(packet, long(`map ${packet.at}`));
          // What a merge cannot read it says so.
          else
            void world.read(packet.ref).then(
              (text) => lane.answer(packet, JSON.stringify(text)),
              () => lane.fault(packet, FaultCode.inputMissing),
            );
        }
      });
      expect(statistics.byNode).toEqual({ "node good": 64 });
      const result = await world.read(world.names.get("out")!.root);
      expect(result).toContain(long("map 63"));
      expect(result).not.toContain("lie");
      expect(liar.lanes.filter(({ entry }) => entry === "map")).toHaveLength(1);
    }
  });

  test("who fails again and again what others can do is barred, from connection to connection, until it is let in", async () => {
    const world = new ScriptedWorld();
    const told: string[] = [];
    world.watched.on("node", (event) => void (event.kind === "barred" && told.push(event.node)));
    const good = world.add("good");
    let bad = world.add("bad", {}, 8);
    const input = await world.putFile("x", 4000);
    const work = (): void => {
      for (const { lane, packet } of bad.waiting.splice(0)) lane.fault(packet, FaultCode.internal);
      good.answerAll(ranges);
    };
    const notes: string[] = [];
    for (let job = 0; job < 20 && told.length === 0; job++) {
      const running = world.run({ id: `j${job}`, inputs: [input], splitBytes: 100 });
      const outcome = await workAll(world, running, work);
      expect(outcome.value).toBe("result");
      notes.push(...outcome.statistics.notes);
      await world.pass(1_000);
    }
    expect(told).toEqual(["bad"]);
    expect(notes.join()).toMatch(
      /could not run (a packet, which is|\d+ packets, which are) tried again: it fails with PFS_INTERNAL/,
    );
    expect(notes.join()).toContain('node "node bad" gets no more packets: it failed packets that others ran');
    const reason = "it failed packets that others ran";
    expect(world.jobs.barsOf("bad")).toEqual([{ kind: "js", reason }]);
    expect(world.jobs.barsOf("good")).toEqual([]);
    world.executors.remove(bad);
    bad = world.add("bad", {}, 8);
    expect(
      (await workAll(world, world.run({ id: "next", inputs: [input], splitBytes: 100 }), work)).value,
    ).toBe("result");
    expect(bad.lanes).toEqual([]);
    world.jobs.allow("bad");
    expect(world.jobs.barsOf("bad")).toEqual([]);
    expect(
      (await workAll(world, world.run({ id: "last", inputs: [input], splitBytes: 100 }), work)).value,
    ).toBe("result");
    expect(bad.lanes).not.toEqual([]);
  });
});
