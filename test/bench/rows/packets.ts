/** EXEC packets that do next to nothing: how many a second go all the way and back, and how long one alone takes. */
import { Worker } from "node:worker_threads";
import { once } from "node:events";
import { Op, PACKET_BYTES } from "../../../packets/layout.ts";
import { decodePacket, encodeFrame, opAt } from "../../../packets/packet.ts";
import { connect, openLocal } from "../../../sdk/index.ts";
import type { LoadedProgram, PacketFS } from "../../../sdk/index.ts";
import { spreadOf } from "../harness.ts";
import type { Row, Side } from "../harness.ts";
import { startNetwork } from "../../../sdk/cli/demo/network.ts";
import type { Sizes } from "../sizes.ts";

const NOOP = {
  source: `export default { input: { kind: "bytes" }, yields: "bytes", map() {} };`,
};
const FRAME_PACKETS = 1024;
const FRAMES_IN_FLIGHT = 16;
/** The rival is sent fewer: so many for each frame. */
const FRAME_MESSAGES = 100;
const INPUT_BYTES = 64;

export interface Stop {
  (): Promise<void>;
}

export async function packetRows(store: string, sizes: Sizes): Promise<{ rows: Row[]; stop: Stop }> {
  const local = await openLocal(store, { workers: 2 });
  const network = await startNetwork({ nodes: 1, workers: 2 });
  const remote = await connect(network.clientToken);
  const here = await load(local);
  const there = await load(remote);
  const rows: Row[] = [
    rate("no-op EXEC packets, local executors", here, 200_000, sizes),
    rate("no-op EXEC packets, one remote node", there, 100_000, sizes),
    latency("one packet there and back, local", here, 1, sizes),
    latency("one packet there and back, remote node", there, 2, sizes),
  ];
  const stop = async (): Promise<void> => {
    await here.program.close();
    await there.program.close();
    await local.close();
    await remote.close();
    await network.stop();
  };
  return { rows, stop };
}

interface Loaded {
  readonly program: LoadedProgram;
  readonly frame: Uint8Array;
}

/** The program in its lanes, and a frame of packets over a stored file of 64 bytes. */
async function load(pfs: PacketFS): Promise<Loaded> {
  const { root } = await pfs.put(
    new Uint8Array(INPUT_BYTES).map((_, index) => index),
    { name: "tiny" },
  );
  let chunk: Uint8Array | undefined;
  for await (const part of pfs.packets(root)) chunk = decodePacket(part.frame, 0).ref;
  const exec = { op: Op.EXEC, lane: 1, length: INPUT_BYTES, ref: chunk! };
  const frame = encodeFrame(Array.from({ length: FRAME_PACKETS }, (_, at) => ({ ...exec, at })));
  const program = await pfs.load(NOOP);
  await program.exec(frame);
  return { program, frame };
}

function rate(question: string, { program, frame }: Loaded, goal: number, { frames, rounds }: Sizes): Row {
  return {
    question,
    unit: "packets/s",
    ours: {
      name: `frames of ${FRAME_PACKETS}`,
      measure: async () => {
        const start = performance.now();
        let next = 0;
        const sender = async (): Promise<void> => {
          while (next++ < frames) {
            const answers = await program.exec(frame);
            if (answers.byteLength !== frame.byteLength || opAt(answers, 0) !== Op.RETURN) {
              throw new Error("a no-op packet was not answered with RETURN");
            }
          }
        };
        await Promise.all(Array.from({ length: FRAMES_IN_FLIGHT }, sender));
        return (frames * FRAME_PACKETS) / ((performance.now() - start) / 1000);
      },
    },
    rivals: [postMessageRate(frames * FRAME_MESSAGES)],
    rounds,
    goal: { figureMin: goal },
  };
}

function latency(
  question: string,
  { program, frame }: Loaded,
  goalMs: number,
  { pings, rounds }: Sizes,
): Row {
  const one = frame.slice(0, PACKET_BYTES);
  return {
    question,
    unit: "ms",
    ours: {
      name: `median of ${pings}`,
      measure: async () => await medianMs(pings, async () => void (await program.exec(one))),
    },
    rivals: [postMessageLatency(pings)],
    rounds,
    goal: { figureMax: goalMs },
  };
}

async function medianMs(pings: number, once: () => Promise<void>): Promise<number> {
  const times: number[] = [];
  for (let ping = 0; ping < pings; ping++) {
    const start = performance.now();
    await once();
    times.push(performance.now() - start);
  }
  return spreadOf(times).median;
}

const ECHO = `require("node:worker_threads").parentPort.on("message", (m) => require("node:worker_threads").parentPort.postMessage(m))`;

/** The floor without frames: one message per task to a bare thread, 64 in flight. */
const postMessageRate = (total: number): Side => ({
  name: "postMessage per task",
  measure: async () => {
    const worker = new Worker(ECHO, { eval: true });
    await once(worker, "online");
    let sent = 0;
    let answered = 0;
    const start = performance.now();
    await new Promise<void>((resolve) => {
      worker.on("message", () => {
        if (++answered === total) resolve();
        else if (sent < total) worker.postMessage(sent++);
      });
      for (; sent < 64; sent++) worker.postMessage(sent);
    });
    const time = (performance.now() - start) / 1000;
    await worker.terminate();
    return total / time;
  },
});

const postMessageLatency = (pings: number): Side => ({
  name: "postMessage to a bare thread",
  measure: async () => {
    const worker = new Worker(ECHO, { eval: true });
    await once(worker, "online");
    const median = await medianMs(pings, async () => {
      worker.postMessage(1);
      await once(worker, "message");
    });
    await worker.terminate();
    return median;
  },
});
