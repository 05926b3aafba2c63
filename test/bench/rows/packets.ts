/** EXEC packets that do next to nothing: how many a second go all the way and back, and how long one alone takes. */
import { once } from "node:events";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { Op, PACKET_BYTES } from "../../../packets/layout.ts";
import { decodePacket, encodeFrame, opAt } from "../../../packets/packet.ts";
import { startNetwork } from "../../../sdk/cli/demo/network.ts";
import { connect, openLocal } from "packetfs";
import type { LoadedProgram, PacketFS, ProgramSource } from "packetfs";
import { medianOf } from "../harness.ts";
import type { Bench, Row, Side } from "../harness.ts";
import type { Sizes } from "../sizes.ts";
import { startEcho, startPool } from "../task-rivals.ts";
import { imported } from "../../wasm-module.ts";

const NOOP = {
  source: `export default { input: { kind: "bytes" }, yields: "bytes", map() {} };`,
};
/** Writes to each 64 KiB page of its 16, which the next packet finds as they were. */
const WASM_NOOP = {
  source: `const module = ${imported({
    memory: [16, 16],
    functions: [
      {
        name: "touch",
        params: [],
        results: [],
        locals: ["i32"],
        code: `loop
          local.get 0 i32.const 1 i32.store8 0
          local.get 0 i32.const 65536 i32.add local.tee 0 i32.const 1048576 i32.lt_u br_if 0
        end`,
      },
    ],
  })};
  export default { input: { kind: "bytes" }, yields: "bytes", map() { module.call("touch"); } };`,
};
const WORKERS = 2;
const FRAME_PACKETS = 1024;
const FRAMES_IN_FLIGHT = 16;
/** Rivals that take one task at a time are sent fewer: so many for each frame. */
const FRAME_TASKS = 100;
const TASKS_IN_FLIGHT = 64;
const INPUT_BYTES = 64;

export async function* packetRows({ directory, sizes }: Bench): AsyncGenerator<Row> {
  yield* localRows(join(directory, "packets-store"), sizes);
  yield* remoteRows(sizes);
}

async function* localRows(store: string, sizes: Sizes): AsyncGenerator<Row> {
  const { frames, pings, rounds } = sizes;
  await using pool = startPool(WORKERS);
  await using thread = await BareThread.start();
  await using pfs = await openLocal(store, { workers: WORKERS });
  await using loaded = await NoOp.load(pfs);
  await using inWasm = await NoOp.load(pfs, WASM_NOOP);
  yield {
    question: "no-op EXEC packets, local executors",
    unit: "packets/s",
    ours: loaded.framesPerSecond(frames),
    rivals: [
      { name: "postMessage per task", measure: () => thread.echoesPerSecond(frames * FRAME_TASKS) },
      perSecond("piscina per task", frames * FRAME_TASKS, () => pool.run()),
    ],
    rounds,
    goal: { figureMin: 1_000_000 },
  };
  yield {
    question: "the same in WebAssembly that writes to 16 pages, restored for each packet",
    unit: "packets/s",
    ours: inWasm.framesPerSecond(frames),
    rivals: [{ ...loaded.framesPerSecond(frames), name: "no-op packets without a module" }],
    rounds,
  };
  yield {
    question: `EXEC packets one by one, ${TASKS_IN_FLIGHT} in flight, local`,
    unit: "packets/s",
    ours: perSecond("a call per packet", frames * FRAME_TASKS, () => loaded.one()),
    rivals: [perSecond("piscina, 2 threads", frames * FRAME_TASKS, () => pool.run())],
    rounds,
    goal: { ratio: 1 },
  };
  yield {
    question: "one packet there and back, local",
    unit: "ms",
    ours: medianOf(`median of ${pings}`, pings, () => loaded.one()),
    rivals: [
      medianOf("postMessage to a bare thread", pings, () => thread.echo()),
      medianOf("piscina", pings, () => pool.run()),
    ],
    rounds,
    goal: { figureMax: 0.1 },
  };
}

async function* remoteRows({ frames, pings, rounds }: Sizes): AsyncGenerator<Row> {
  await using echo = await startEcho(INPUT_BYTES);
  const network = await startNetwork({ nodes: 1, workers: WORKERS });
  try {
    await using pfs = await connect(network.clientToken);
    await using loaded = await NoOp.load(pfs);
    await using others = await connect(network.clientToken, { direct: false });
    await using relayed = await NoOp.load(others);
    yield {
      question: "no-op EXEC packets, one remote node",
      unit: "packets/s",
      ours: loaded.framesPerSecond(frames),
      rivals: [
        perSecond("ZeroMQ echo per task", frames * FRAME_TASKS, () => echo.run()),
        { ...relayed.framesPerSecond(frames), name: "the same through the hub" },
      ],
      rounds,
      goal: { figureMin: 500_000 },
    };
    yield {
      question: "one packet there and back, remote node",
      unit: "ms",
      ours: medianOf(`median of ${pings}`, pings, () => loaded.one()),
      rivals: [
        medianOf("ZeroMQ echo", pings, () => echo.run()),
        medianOf("the same through the hub", pings, () => relayed.one()),
      ],
      rounds,
      goal: { figureMax: 0.3 },
    };
  } finally {
    await network.stop();
  }
}

/** The program in its lanes, and a frame of packets over a stored file of 64 bytes. */
class NoOp implements AsyncDisposable {
  readonly #program: LoadedProgram;
  readonly #frame: Uint8Array;

  private constructor(program: LoadedProgram, frame: Uint8Array) {
    this.#program = program;
    this.#frame = frame;
  }

  static async load(pfs: PacketFS, source: ProgramSource = NOOP): Promise<NoOp> {
    const { root } = await pfs.put(
      new Uint8Array(INPUT_BYTES).map((_, index) => index),
      { name: "tiny" },
    );
    let chunk: Uint8Array | undefined;
    for await (const part of pfs.packets(root)) chunk = decodePacket(part.frame, 0).ref;
    const exec = { op: Op.EXEC, lane: 1, length: INPUT_BYTES, ref: chunk! };
    const frame = encodeFrame(Array.from({ length: FRAME_PACKETS }, (_, at) => ({ ...exec, at })));
    const program = await pfs.load(source);
    // Of a remote node the second call has the way made that packets take from then on.
    for (let call = 0; call < 2; call++) await program.exec(frame);
    return new NoOp(program, frame);
  }

  async one(): Promise<void> {
    await this.#exec(this.#frame.subarray(0, PACKET_BYTES));
  }

  framesPerSecond(frames: number): Side {
    return {
      name: `frames of ${FRAME_PACKETS}`,
      measure: async () =>
        FRAME_PACKETS * (await callsPerSecond(frames, FRAMES_IN_FLIGHT, () => this.#exec(this.#frame))),
    };
  }

  async #exec(frame: Uint8Array): Promise<void> {
    const answers = await this.#program.exec(frame);
    if (answers.byteLength !== frame.byteLength || opAt(answers, 0) !== Op.RETURN)
      throw new Error("a no-op packet was not answered with RETURN");
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#program.close();
  }
}

const perSecond = (name: string, calls: number, call: () => Promise<void>): Side => ({
  name,
  measure: () => callsPerSecond(calls, TASKS_IN_FLIGHT, call),
});

async function callsPerSecond(calls: number, inFlight: number, call: () => Promise<void>): Promise<number> {
  let next = 0;
  const caller = async (): Promise<void> => {
    while (next++ < calls) await call();
  };
  const start = performance.now();
  await Promise.all(Array.from({ length: inFlight }, caller));
  return calls / ((performance.now() - start) / 1000);
}

const ECHO = `const { parentPort } = require("node:worker_threads"); parentPort.on("message", (message) => parentPort.postMessage(message))`;

/** The floor without frames: a message there and one back. One measurement at a time. */
class BareThread implements AsyncDisposable {
  readonly #worker: Worker;
  #onEcho: () => void = () => undefined;

  private constructor(worker: Worker) {
    this.#worker = worker;
    worker.on("message", () => this.#onEcho());
  }

  static async start(): Promise<BareThread> {
    const worker = new Worker(ECHO, { eval: true });
    await once(worker, "online");
    return new BareThread(worker);
  }

  echo(): Promise<void> {
    return new Promise((resolve) => {
      this.#onEcho = resolve;
      this.#worker.postMessage(1);
    });
  }

  /** Without a promise for each, which would cost as much again. */
  async echoesPerSecond(total: number): Promise<number> {
    let sent = 0;
    let answered = 0;
    const start = performance.now();
    await new Promise<void>((resolve) => {
      this.#onEcho = () => {
        if (++answered === total) resolve();
        else if (sent < total) this.#worker.postMessage(sent++);
      };
      for (; sent < TASKS_IN_FLIGHT; sent++) this.#worker.postMessage(sent);
    });
    return total / ((performance.now() - start) / 1000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }
}
