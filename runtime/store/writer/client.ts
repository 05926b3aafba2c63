/** The calling thread's side of a store's writer thread: calls, answers, what becomes of them when it ends, and its writers. */
import { Worker } from "node:worker_threads";
import { PacketfsError } from "../../../packets/errors.ts";
import { REF_BYTES } from "../../../packets/layout.ts";
import { checkBlock } from "../../block.ts";
import { builtUrl } from "../../built.ts";
import type { Binding, NameCondition, NameRecord } from "../../contracts/catalog.ts";
import type { StoredFormWriter, StoredForms, WrittenChunks } from "../../contracts/chunks.ts";
import { StoreError, StoreErrorCode } from "../../errors.ts";
import { REPAIR_WAIT_MS } from "../../limits.ts";
import { checkBinding } from "../catalog.ts";
import type { PendingPlaces } from "../index/reader.ts";
import { PLACE_NUMBERS } from "./protocol.ts";
import type {
  FromWriter,
  ToWriter,
  WriteAnswer,
  WriterAnswers,
  WriterData,
  WriterRequest,
} from "./protocol.ts";

export interface WriterEvents {
  readonly onCommitted: (place: number) => void;
  readonly onNote: (text: string) => void;
  readonly onDropped: (segment: number) => void;
  readonly onRepaired: (generation: number, note: string) => void;
}

interface Call {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

export class WriterClient {
  readonly #worker: Worker;
  readonly #calls: Map<number, Call> = new Map();
  #nextId = 1;
  #ended: Error | undefined;

  private constructor(worker: Worker) {
    this.#worker = worker;
  }

  /** Starts a writer. Rejects with PFS_STORE_UNREADABLE, PFS_STORE_READ_ONLY, PFS_STORE_BUSY, PFS_STORE_FULL or PFS_STORE_IO. */
  static open(
    data: WriterData,
    events: WriterEvents,
  ): Promise<{ client: WriterClient; storeId: Uint8Array; notes: readonly string[] }> {
    const url = builtUrl(new URL("./worker.ts", import.meta.url));
    const worker = new Worker(url, { workerData: data, execArgv: [], name: "packetfs-store" });
    const client = new WriterClient(worker);
    return new Promise((resolve, reject) => {
      worker.on("message", (message: FromWriter) => {
        switch (message.kind) {
          case "opened":
            client.#idle();
            return resolve({ client, storeId: message.id, notes: message.notes });
          case "not-opened":
            return reject(PacketfsError.fromJSON(message.error));
          case "answer":
            return client.#take(message.id)?.resolve(message.value);
          case "failed":
            return client.#take(message.id)?.reject(PacketfsError.fromJSON(message.error));
          case "committed":
            return events.onCommitted(message.place);
          case "note":
            return events.onNote(message.text);
          case "dropped":
            return events.onDropped(message.segment);
          case "repaired":
            return events.onRepaired(message.generation, message.note);
        }
      });
      worker.on("error", (error) => {
        client.#end(new StoreError(StoreErrorCode.io, "the store's writer failed", {}, { cause: error }));
        reject(client.#ended!);
      });
      worker.on("exit", () => client.#end(closedError()));
    });
  }

  /** Rejects with the writer's error, or PFS_STORE_CLOSED. What is in `transfer` must not be used any more. */
  call<K extends WriterRequest["kind"]>(
    request: Extract<WriterRequest, { kind: K }>,
    transfer: readonly ArrayBuffer[] = [],
  ): Promise<WriterAnswers[K]> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    const id = this.#nextId++;
    return new Promise<unknown>((resolve, reject) => {
      this.#calls.set(id, { resolve, reject });
      // A process with nothing else to do ends, but not before it has its answers.
      if (this.#calls.size === 1) this.#worker.ref();
      this.#worker.postMessage({ id, request } satisfies ToWriter, transfer);
    }) as Promise<WriterAnswers[K]>;
  }

  /** Has the index built again and stands still until it is. Throws PFS_STORE_IO. */
  repair(generation: number): void {
    const done = new Int32Array(new SharedArrayBuffer(4));
    this.call({ kind: "repair", generation, done }).catch(() => {});
    Atomics.wait(done, 0, 0, REPAIR_WAIT_MS);
    if (Atomics.load(done, 0) === 1) return;
    throw new StoreError(StoreErrorCode.io, "the index is damaged and could not be built again");
  }

  /** Makes everything durable, ends the writer and frees the store for others. */
  async close(): Promise<void> {
    const exited = new Promise((resolve) => this.#worker.once("exit", resolve));
    try {
      await this.call({ kind: "close" });
    } finally {
      this.#worker.ref();
      await exited;
    }
  }

  #take(id: number): Call | undefined {
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    this.#idle();
    return call;
  }

  #idle(): void {
    if (this.#calls.size === 0) this.#worker.unref();
  }

  #end(error: Error): void {
    this.#ended ??= error;
    for (const { reject } of this.#calls.values()) reject(this.#ended);
    this.#calls.clear();
  }
}

function closedError(): StoreError {
  return new StoreError(StoreErrorCode.closed, "the store is closed");
}

/** A writer as its users hold it; the thread knows it by its number. */
export class ClientWriter implements StoredFormWriter {
  readonly #writer: WriterClient;
  readonly #pending: PendingPlaces;
  readonly #id: number;
  #isClosed = false;

  constructor(writer: WriterClient, pending: PendingPlaces, id: number) {
    this.#writer = writer;
    this.#pending = pending;
    this.#id = id;
  }

  async write(block: Uint8Array<ArrayBuffer>, lengths: Uint32Array<ArrayBuffer>): Promise<WrittenChunks> {
    const writer = this.#open();
    checkBlock(block, lengths);
    return this.#written(await this.#writer.call({ kind: "write", writer, block, lengths }, [block.buffer]));
  }

  async writeStored(block: Uint8Array<ArrayBuffer>, chunks: StoredForms): Promise<WrittenChunks> {
    const writer = this.#open();
    checkBlock(block, chunks.lengths);
    const { refs, lengths, plainLengths, codecs } = chunks;
    if (refs.byteLength !== lengths.length * REF_BYTES)
      throw new RangeError("a ref for each chunk is needed");
    if (plainLengths.length !== lengths.length || codecs.length !== lengths.length)
      throw new RangeError("a plain length and a codec for each chunk are needed");
    return this.#written(
      await this.#writer.call({ kind: "write-stored", writer, block, chunks }, [block.buffer]),
    );
  }

  async claim(refs: Uint8Array): Promise<Uint8Array> {
    return this.#writer.call({ kind: "claim", writer: this.#open(), refs });
  }

  async flush(): Promise<void> {
    return this.#writer.call({ kind: "flush", writer: this.#open() });
  }

  async bind(binding: Binding, condition: NameCondition = {}): Promise<NameRecord> {
    checkBinding(binding);
    const { expected } = condition;
    return this.#writer.call({ kind: "bind", writer: this.#open(), ...binding, expected });
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#writer.call({ kind: "close-writer", writer: this.#id }).catch((error: unknown) => {
      // A store that was closed first has ended its writers too.
      if (!(error instanceof StoreError && error.code === StoreErrorCode.closed)) throw error;
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #written({ places, ...written }: WriteAnswer): WrittenChunks {
    this.#pending.add(written.refs, places);
    const isNew = new Uint8Array(written.refs.byteLength / REF_BYTES);
    for (let at = 0; at < places.length; at += PLACE_NUMBERS) isNew[places[at]!] = 1;
    return { ...written, isNew };
  }

  #open(): number {
    if (this.#isClosed) throw new StoreError(StoreErrorCode.closed, "the writer is closed");
    return this.#id;
  }
}
