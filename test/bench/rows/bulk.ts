/** Bytes of a file between two processes of this machine, over a bulk channel, and over ZeroMQ with and without encryption. */
import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { closeSync, openSync, rmSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Router } from "zeromq";
import type { BulkChannel, BulkMessage } from "../../../nodes/wire/bulk/dialing.ts";
import type { Link } from "../../../nodes/wire/link.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import { dial } from "../../../nodes/wire/zeromq/dial.ts";
import { sha256 } from "../../../packets/digest.ts";
import type { Sent, ToSender } from "../bulk-sender.ts";
import { writeRandom } from "../corpus.ts";
import type { Bench, Row, Side } from "../harness.ts";

const BODY_BYTES: number = 1024 * 1024;
const FRAME_BYTES: number = 64 * 1024;
const CHUNK_BYTES: number = 64 * 1024;

export async function* bulkRows({ directory, sizes }: Bench): AsyncGenerator<Row> {
  const { randomBytes: bytes, rounds } = sizes;
  const file = join(directory, "random");
  writeRandom(file, bytes);
  await using network = await Network.open(file);
  try {
    yield* rowsOf(network, join(directory, "received"), rounds);
  } finally {
    rmSync(file);
  }
}

/** What moving the file once took. */
interface Moved {
  readonly seconds: number;
  readonly senderCpuSeconds: number;
  readonly receiverCpuSeconds: number;
}

function rowsOf(network: Network, target: string, rounds: number): Row[] {
  const { bytes } = network;
  const size = `${Math.round(bytes / 2 ** 20)} MiB between two processes`;
  const gibibytes = bytes / 2 ** 30;
  const figures: Readonly<Record<"rate" | "sender" | "receiver", (moved: Moved) => number>> = {
    rate: ({ seconds }) => bytes / 1e6 / seconds,
    sender: ({ senderCpuSeconds }) => senderCpuSeconds / gibibytes,
    receiver: ({ receiverCpuSeconds }) => receiverCpuSeconds / gibibytes,
  };
  const ways: Readonly<Record<"sealed" | "clear" | "placed" | "raw" | "curve", () => Promise<Moved>>> = {
    sealed: () => network.overBulk(false),
    clear: () => network.overBulk(true),
    placed: () => network.overBulk(false, target),
    raw: () => network.overZeromq(false),
    curve: () => network.overZeromq(true),
  };
  const side = (name: string, way: keyof typeof ways, figure: keyof typeof figures): Side => ({
    name,
    measure: async () => figures[figure](await ways[way]()),
  });
  const rivals = (first: "raw" | "curve", figure: keyof typeof figures): Side[] => {
    const raw = side("ZeroMQ, frames of 64 KiB", "raw", figure);
    const curve = side("the same with CURVE", "curve", figure);
    return first === "raw" ? [raw, curve] : [curve, raw];
  };
  const rate = { unit: "MB/s", rounds };
  const cpu = { unit: "CPU s/GiB", rounds };
  return [
    {
      ...rate,
      question: `${size}, bodies in the clear`,
      ours: side("a bulk channel, from a file", "clear", "rate"),
      rivals: rivals("raw", "rate"),
      goal: { ratio: 0.7 },
    },
    {
      ...rate,
      question: `${size}, encrypted`,
      ours: side("a bulk channel, from a file", "sealed", "rate"),
      rivals: rivals("curve", "rate"),
      goal: { ratio: 2 },
    },
    {
      ...rate,
      question: `${size}, encrypted, each chunk verified and written`,
      ours: side("a bulk channel, file to file", "placed", "rate"),
      rivals: [side("the same, not verified or written", "sealed", "rate")],
    },
    ...(["sender", "receiver"] as const).flatMap((end): Row[] => [
      {
        ...cpu,
        question: `CPU time of the ${end}, clear`,
        ours: side("a bulk channel", "clear", end),
        rivals: rivals("raw", end),
      },
      {
        ...cpu,
        question: `CPU time of the ${end}, encrypted`,
        ours: side("a bulk channel", "sealed", end),
        rivals: rivals("curve", end),
      },
    ]),
  ];
}

class Network implements AsyncDisposable {
  readonly bytes: number;
  readonly #refs: Uint8Array[];
  readonly #child: ChildProcess;
  readonly #keys: { readonly hub: Identity; readonly client: Identity };
  readonly #address: string;

  private constructor(
    child: ChildProcess,
    keys: { readonly hub: Identity; readonly client: Identity },
    address: string,
    refs: Uint8Array[],
    bytes: number,
  ) {
    this.#child = child;
    this.#keys = keys;
    this.#address = address;
    this.#refs = refs;
    this.bytes = bytes;
  }

  static async open(file: string): Promise<Network> {
    const [hubSecret, clientSecret] = [randomBytes(32), randomBytes(32)];
    const script = fileURLToPath(new URL("../bulk-sender.ts", import.meta.url));
    const words = [file, hubSecret.toString("hex"), clientSecret.toString("hex")];
    const child = fork(script, words, { execArgv: [] });
    const [address] = (await once(child, "message")) as [string];
    const keys = { hub: Identity.fromSecret(hubSecret), client: Identity.fromSecret(clientSecret) };
    return new Network(child, keys, address, await refsOf(file), statSync(file).size);
  }

  /** Over one channel, opened before, where bodies are dropped, or verified and written to a file. */
  async overBulk(isClear: boolean, target?: string): Promise<Moved> {
    const { hub: server, client: identity } = this.#keys;
    const link: Link = await dial({
      address: this.#address,
      server,
      identity,
      role: "client",
      label: "receiver",
      bulk: { allowsClear: isClear },
    });
    const channel = await link.bulk!.channel();
    if (channel.isClear !== isClear) throw new Error("the channel is another one");
    const output = target === undefined ? undefined : openSync(target, "w");
    try {
      return await this.#move({ kind: "bulk", bodyBytes: BODY_BYTES }, this.#received(channel, output));
    } finally {
      if (output !== undefined) closeSync(output);
      await link.close();
    }
  }

  async overZeromq(isCurve: boolean): Promise<Moved> {
    const { hub } = this.#keys;
    const socket = new Router(isCurve ? { curveServer: true, curveSecretKey: hub.curveSecretZ85() } : {});
    await socket.bind("tcp://127.0.0.1:*");
    const received = (async () => {
      let bytes = 0;
      while (bytes < this.bytes) {
        const [id, frame] = await socket.receive();
        bytes += frame!.byteLength;
        if (bytes >= this.bytes) await socket.send([id!, "all"]);
      }
    })();
    const endpoint = socket.lastEndpoint!;
    try {
      return await this.#move({ kind: "zeromq", endpoint, isCurve, frameBytes: FRAME_BYTES }, received);
    } finally {
      socket.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#child, "exit");
    this.#child.disconnect();
    await ended;
  }

  async #move(message: ToSender, received: Promise<void>): Promise<Moved> {
    const begun = performance.now();
    const before = process.cpuUsage();
    const answer = once(this.#child, "message") as Promise<[Sent]>;
    this.#child.send(message);
    await received;
    const seconds = (performance.now() - begun) / 1000;
    const { user, system } = process.cpuUsage(before);
    const [{ cpuSeconds: senderCpuSeconds }] = await answer;
    return { seconds, senderCpuSeconds, receiverCpuSeconds: (user + system) / 1e6 };
  }

  #received(channel: BulkChannel, output: number | undefined): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    void channel.closed.then(reject);
    let began = 0;
    let done = 0;
    channel.onMessage(async (message) => {
      const at = began;
      began += message.bodyBytes;
      if (output !== undefined) await this.#place(message, at, output);
      done += message.bodyBytes;
      if (done === this.bytes) resolve();
    });
    return promise;
  }

  async #place(message: BulkMessage, from: number, output: number): Promise<void> {
    const chunks = Math.ceil(message.bodyBytes / CHUNK_BYTES);
    const first = from / CHUNK_BYTES;
    const lengths = Uint32Array.from({ length: chunks }, (_, index) =>
      Math.min(CHUNK_BYTES, message.bodyBytes - index * CHUNK_BYTES),
    );
    const { good } = await message.place({
      refs: Buffer.concat(this.#refs.slice(first, first + chunks)),
      storedBytes: lengths,
      plainBytes: lengths,
      codec: new Uint8Array(chunks),
      files: [output],
      targets: {
        chunk: Uint32Array.from(lengths, (_, index) => index),
        file: new Uint32Array(chunks),
        offset: Float64Array.from(lengths, (_, index) => from + index * CHUNK_BYTES),
      },
    });
    if (!good.every((each) => each === 1)) throw new Error("a chunk is wrong");
  }
}

async function refsOf(file: string): Promise<Uint8Array[]> {
  const input = await open(file);
  const refs: Uint8Array[] = [];
  for (;;) {
    const { bytesRead, buffer } = await input.read(Buffer.allocUnsafe(CHUNK_BYTES), 0, CHUNK_BYTES);
    if (bytesRead === 0) break;
    refs.push(sha256(buffer.subarray(0, bytesRead)));
  }
  await input.close();
  return refs;
}
