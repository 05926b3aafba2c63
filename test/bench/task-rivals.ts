/** What people would use instead for small tasks: a pool of threads, and messages over a ZeroMQ link to another process. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { Piscina } from "piscina";
import { Dealer } from "zeromq";

/** Does a task that does nothing. Calls may overlap. */
export interface TaskRival extends AsyncDisposable {
  run(): Promise<void>;
}

export function startPool(threads: number): TaskRival {
  const filename = new URL("./empty-task.ts", import.meta.url).href;
  const pool = new Piscina({ filename, minThreads: threads, maxThreads: threads, recordTiming: false });
  return {
    run: async () => void (await pool.run(1)),
    [Symbol.asyncDispose]: () => pool.destroy(),
  };
}

/** Messages of so many bytes to a process that sends them back, unencrypted. */
export async function startEcho(bytes: number): Promise<TaskRival> {
  const child = fork(fileURLToPath(new URL("./zeromq-echo.ts", import.meta.url)));
  const [address] = (await once(child, "message")) as [string];
  const socket = new Dealer({ linger: 0, sendHighWaterMark: 0, receiveHighWaterMark: 0 });
  socket.connect(address);
  const message = new Uint8Array(bytes);
  const waiting: (() => void)[] = [];
  // One write at a time is all that a socket takes.
  let written: Promise<void> = Promise.resolve();
  const receive = async (): Promise<void> => {
    // They come back in order.
    for await (const _ of socket) waiting.shift()!();
  };
  const received = receive();
  return {
    run: async () => {
      const answered = new Promise<void>((resolve) => waiting.push(resolve));
      written = written.then(() => socket.send(message));
      await answered;
    },
    [Symbol.asyncDispose]: async () => {
      socket.close();
      await received;
      child.disconnect();
      await once(child, "exit");
    },
  };
}
