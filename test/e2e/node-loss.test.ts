/** Word counts and streams of packets on two nodes equal a plain count exactly, whatever becomes of the nodes meanwhile. */
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Op } from "../../packets/layout.ts";
import { startNetwork } from "../../sdk/cli/demo/network.ts";
import type { Network } from "../../sdk/cli/demo/network.ts";
import { connect } from "../../sdk/index.ts";
import type { JobEvent, JobResult } from "../../sdk/index.ts";
import { joinNode } from "./daemon.ts";
import { prose, wordCounts } from "./inputs.ts";
import { Places } from "../suites/places.ts";
import { signalThatEnded } from "../suites/processes.ts";

const MIB = 1024 * 1024;
const WORD_COUNT = { path: fileURLToPath(new URL("../../examples/word-count.ts", import.meta.url)) };

const text = prose(8 * MIB, 5);
const expected = wordCounts(text);

/** Counts words at the hub; `onProgress` is called once, when the first packets are done and others are not. */
async function count(token: string, onProgress?: () => void): Promise<JobResult> {
  await using pfs = await connect(token);
  let told = false;
  return await pfs.run(WORD_COUNT, ["prose.txt"], {
    splitBytes: MIB / 2,
    onEvent: (event: JobEvent) => {
      if (told || event.kind !== "progress" || event.done === 0 || event.done === event.tasks) return;
      told = true;
      onProgress?.();
    },
  });
}

describe("word counts on two nodes", () => {
  let network: Network;
  beforeAll(async () => {
    network = await startNetwork({ nodes: 2, workers: 1 });
    await using pfs = await connect(network.clientToken);
    await pfs.put(text, { name: "prose.txt" });
  });
  afterAll(() => network.stop());

  it("are those of a plain count", async () => {
    const { value, statistics } = await count(network.clientToken);
    expect(value).toEqual(expected);
    expect(statistics).toMatchObject({ inputBytes: text.length, retries: 0, notes: [] });
  });

  it("are the same when a node is killed in the middle", async () => {
    const [victim] = network.nodes;
    const { value, statistics } = await count(network.clientToken, () => victim!.process.kill("SIGKILL"));
    expect(await signalThatEnded(victim!.process)).toBe("SIGKILL");
    expect(value).toEqual(expected);
    expect(statistics.notes.join("\n")).toMatch(/node-1\b.*\blost/);
    expect(Object.values(statistics.byNode).reduce((sum, splits) => sum + splits, 0)).toBe(statistics.tasks);
    expect(statistics.retries).toBeGreaterThan(0);
  });

  it("are the same when nobody is left, and another node joins later", async () => {
    // The other was killed before.
    const last = network.nodes[1]!.process;
    let late: Promise<unknown> | undefined;
    const { value, statistics } = await count(network.clientToken, () => {
      last.kill("SIGKILL");
      late = once(last, "exit").then(() => joinNode(network.joinToken, "node-3"));
    });
    await late;
    expect(value).toEqual(expected);
    expect(statistics.byNode["node-3"]).toBeGreaterThan(0);
    expect(statistics.notes.join("\n")).toMatch(/\blost/);
  });
});

describe("a stream of frames through two nodes", () => {
  it("has the answer to each packet when a node is killed in the middle", async () => {
    const network = await startNetwork({ nodes: 2, workers: 1 });
    try {
      await using pfs = await connect(network.clientToken);
      const places = 241;
      await using asked = await Places.load(pfs, places);
      const count = 512;
      let given = 0;
      let isKilled = false;
      function* frames(): Generator<Uint8Array> {
        // As long as it takes until the node is gone, and some more.
        for (let left = 100; left > 0; left -= network.nodes[0]!.process.signalCode === null ? 0 : 1) {
          yield asked.frame(given++, count);
        }
      }
      let read = 0;
      for await (const answers of asked.program.exec(frames())) {
        expect(answers.byteLength).toBe(count * 64);
        for (let index = 0; index < count; index++) {
          const start = index * 64;
          if (answers[start] !== Op.RETURN || answers[start + 32] !== (read + index) % places)
            throw new Error(`packet ${index} of frame ${read} has another answer`);
        }
        read++;
        if (read < 100 || isKilled) continue;
        isKilled = network.nodes[0]!.process.kill("SIGKILL");
      }
      expect(read).toBe(given);
      expect(network.nodes[0]!.process.signalCode).toBe("SIGKILL");
    } finally {
      await network.stop();
    }
  });
});
