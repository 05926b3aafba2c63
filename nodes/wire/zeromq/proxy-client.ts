/** The port's side of the thread of its proxy. */
import { MessageChannel, Worker } from "node:worker_threads";
import type { NetConnectOpts } from "node:net";
import { builtUrl } from "../../../runtime/built.ts";
import { CONNECTIONS_MAX } from "../../limits.ts";
import { BulkEnd } from "../bulk/bulk-end.ts";
import { closedHere } from "../session/errors.ts";
import type { Address } from "../trust/address.ts";
import { CLOSING_INDEX, COUNTERS_INDEX, FULL_INDEX, TICKS_INDEX } from "./proxy-protocol.ts";
import type { FromProxy, ProxyCounters, ProxyThreadData, ToProxy } from "./proxy-protocol.ts";
import { lineBytes } from "./zmtp.ts";

/** Something the system refused. */
class ListenError extends Error {
  readonly code: string;

  constructor(message: string, code: string) {
    super(message);
    this.code = code;
  }
}

export interface ProxyListener {
  admitted(connection: number, address: string): void;
  admissionEnded(connection: number): void;
  unfinished(address: string, reason: "foreign" | "late"): void;
  flood(connection: number): void;
  /** The thread has ended, and not because it was asked to. */
  failed(error: Error): void;
}

export class ProxyClient {
  /** The port's number. */
  readonly port: number;
  /** The bulk channels of the thread. */
  readonly bulk: BulkEnd;
  readonly #worker: Worker;
  readonly #counters: ProxyCounters;
  readonly #freeCounters: number[];
  readonly #closed: Promise<void>;
  #isClosing = false;

  private constructor(
    worker: Worker,
    counters: ProxyCounters,
    port: number,
    bulk: BulkEnd,
    listener: ProxyListener,
  ) {
    this.#worker = worker;
    this.bulk = bulk;
    this.#counters = counters;
    this.#freeCounters = Array.from(
      { length: counters.length - COUNTERS_INDEX },
      (_, index) => index + COUNTERS_INDEX,
    );
    this.port = port;
    worker.on("message", (message: FromProxy) => deliver(message, listener));
    this.#closed = new Promise((resolve) => {
      worker.once("error", (error) => listener.failed(error));
      worker.once("exit", () => {
        bulk.lost(closedHere());
        if (!this.#isClosing) listener.failed(new Error("the thread of the port's proxy ended"));
        resolve();
      });
    });
  }

  /** Opens the port; 0 lets the system choose. Rejects with the system's error. */
  static async open(address: Address, inner: NetConnectOpts, listener: ProxyListener): Promise<ProxyClient> {
    // The port's own connection and those of the moment have counters too.
    const counters = new Int32Array(
      new SharedArrayBuffer((CONNECTIONS_MAX + 64) * Int32Array.BYTES_PER_ELEMENT),
    );
    const { port1, port2 } = new MessageChannel();
    const workerData: ProxyThreadData = { address, inner, counters, bulk: port2 };
    const url = builtUrl(new URL("./proxy-thread.ts", import.meta.url));
    const worker = new Worker(url, {
      workerData,
      transferList: [port2],
      execArgv: [],
      name: "packetfs-port",
    });
    try {
      const port = await new Promise<number>((resolve, reject) => {
        worker.once("error", reject);
        worker.once("message", (message: FromProxy) => {
          worker.off("error", reject);
          if (message.kind === "listening") resolve(message.port);
          if (message.kind === "not-listening") reject(new ListenError(message.message, message.system));
        });
      });
      return new ProxyClient(worker, counters, port, new BulkEnd(port1), listener);
    } catch (error) {
      port1.close();
      await worker.terminate();
      throw error;
    }
  }

  /** One connection may be admitted. */
  grant(): void {
    this.#post({ kind: "grant" });
  }

  /** The ROUTER has a connection that was admitted. What comes out of it is to be counted until it is gone. */
  open(connection: number, key: string): number {
    const counter = this.#freeCounters.pop();
    if (counter === undefined) throw new Error("more connections than there may be");
    Atomics.store(this.#counters, counter, 0);
    this.#post({ kind: "open", connection, counter, key });
    return counter;
  }

  /** A message came out of the ROUTER. */
  delivered(counter: number, parts: readonly Uint8Array[]): void {
    let bytes = 0;
    for (const { byteLength } of parts) bytes += lineBytes(byteLength);
    Atomics.add(this.#counters, counter, bytes);
  }

  /** Nothing comes out of it any more. */
  gone(counter: number): void {
    this.#freeCounters.push(counter);
  }

  /** The connection that was admitted was refused. */
  refuse(connection: number): void {
    this.#post({ kind: "refuse", connection });
  }

  cut(connection: number): void {
    this.#post({ kind: "cut", connection });
  }

  /** Whether there are connections of which no more is read until something comes out of them. */
  get hasFull(): boolean {
    return Atomics.load(this.#counters, FULL_INDEX) > 0;
  }

  /** The port's event loop has had a tick. */
  tick(): void {
    Atomics.add(this.#counters, TICKS_INDEX, 1);
  }

  /** Closes the port. Resolves when what the ROUTER said has left, or had its time. */
  async close(): Promise<void> {
    Atomics.store(this.#counters, CLOSING_INDEX, 1);
    if (!this.#isClosing) this.#post({ kind: "close" });
    this.#isClosing = true;
    await this.#closed;
  }

  #post(message: ToProxy): void {
    this.#worker.postMessage(message);
  }
}

function deliver(message: FromProxy, listener: ProxyListener): void {
  switch (message.kind) {
    case "admitted":
      return listener.admitted(message.connection, message.address);
    case "admission-ended":
      return listener.admissionEnded(message.connection);
    case "unfinished":
      return listener.unfinished(message.address, message.reason);
    case "flood":
      return listener.flood(message.connection);
    case "listening":
    case "not-listening":
      // The first message, which `open` has read.
      return;
  }
}
