/**
 * Their side who use what writes a store: calls, answers, what becomes of them when it ends, and its writers. It has a thread
 * of its own, which costs more to start than little work takes, or shares the caller's.
 */
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

export interface OpenedWriter {
  readonly client: WriterClient;
  readonly storeId: Uint8Array;
  /** For people: what was found wrong, and put right. */
  readonly notes: readonly string[];
}

/** What writes the store, as who uses it sees it. */
interface WriterHost {
  readonly post: (message: ToWriter, transfer: readonly ArrayBuffer[]) => void;
  /** A process with nothing else to do ends, unless it waits for an answer. */
  readonly await: (isAwaited: boolean) => void;
}

/** What a host says. */
interface HostEvents {
  readonly take: (message: FromWriter) => void;
  readonly failed: (error: unknown) => void;
  readonly exited: () => void;
}

export class WriterClient {
  /** Whether it has a thread of its own, so that the caller can stand still until it has done something. */
  readonly isAside: boolean;
  readonly #host: WriterHost;
  readonly #calls: Map<number, Call> = new Map();
  readonly #exited: PromiseWithResolvers<void> = Promise.withResolvers();
  #nextId = 1;
  #nextWriter = 1;
  #ended: Error | undefined;

  private constructor(
    isAside: boolean,
    start: (events: HostEvents) => WriterHost,
    take: (message: FromWriter) => void,
  ) {
    this.isAside = isAside;
    this.#host = start({
      take,
      failed: (error) =>
        this.#end(new StoreError(StoreErrorCode.io, "the store's writer failed", {}, { cause: error })),
      exited: () => {
        this.#end(closedError());
        this.#exited.resolve();
      },
    });
  }

  /**
   * Starts a writer, in a thread of its own unless it is `isHere`. Rejects with PFS_STORE_UNREADABLE, PFS_STORE_READ_ONLY,
   * PFS_STORE_BUSY, PFS_STORE_FULL or PFS_STORE_IO.
   */
  static async open(data: WriterData, events: WriterEvents, isHere = false): Promise<OpenedWriter> {
    const start = isHere ? await hostHere(data) : (heard: HostEvents) => hostInThread(data, heard);
    return new Promise((resolve, reject) => {
      const client: WriterClient = new WriterClient(!isHere, start, (message) => {
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
      // Unless it is open by then.
      void client.#exited.promise.then(() => reject(client.#ended!));
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
      if (this.#calls.size === 1) this.#host.await(true);
      this.#host.post({ id, request }, transfer);
    }) as Promise<WriterAnswers[K]>;
  }

  /** Begins to write, and returns the writer's number for the calls that follow. Throws PFS_STORE_CLOSED or why it has ended. */
  openWriter(isTemporary = false): number {
    if (this.#ended !== undefined) throw this.#ended;
    const writer = this.#nextWriter++;
    // It fails with all that writes, which is told to whoever asks for something of the writer.
    this.call({ kind: "open-writer", writer, isTemporary }).catch(() => {});
    return writer;
  }

  /** Nobody has to wait for it: a gc that is asked for next comes behind it. */
  closeWriter(writer: number): void {
    this.call({ kind: "close-writer", writer }).catch(() => {});
  }

  /** Has the index built again and stands still until it is, by a writer that is aside. Throws PFS_STORE_IO or PFS_STORE_CLOSED. */
  repair(generation: number): void {
    // One that has ended would be waited for in vain.
    if (this.#ended !== undefined) throw this.#ended;
    const done = this.repairLater(generation);
    Atomics.wait(done, 0, 0, REPAIR_WAIT_MS);
    if (Atomics.load(done, 0) === 1) return;
    throw new StoreError(StoreErrorCode.io, "the index is damaged and could not be built again");
  }

  /** Has the index built again. Returns a word of shared memory that becomes 1 then, or 2 when it failed. */
  repairLater(generation: number): Int32Array<SharedArrayBuffer> {
    const done = new Int32Array(new SharedArrayBuffer(4));
    this.call({ kind: "repair", generation, done }).catch(() => {});
    return done;
  }

  /** Makes everything durable, ends the writer and frees the store for others. */
  async close(): Promise<void> {
    try {
      await this.call({ kind: "close" });
    } finally {
      this.#host.await(true);
      await this.#exited.promise;
    }
  }

  #take(id: number): Call | undefined {
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    this.#idle();
    return call;
  }

  #idle(): void {
    if (this.#calls.size === 0) this.#host.await(false);
  }

  #end(error: Error): void {
    this.#ended ??= error;
    for (const { reject } of this.#calls.values()) reject(this.#ended);
    this.#calls.clear();
  }
}

function hostInThread(data: WriterData, { take, failed, exited }: HostEvents): WriterHost {
  const url = builtUrl(new URL("./worker.ts", import.meta.url));
  const worker = new Worker(url, { workerData: data, execArgv: [], name: "packetfs-store" });
  worker.on("message", take).on("error", failed).on("exit", exited);
  return {
    post: (message, transfer) => worker.postMessage(message, transfer),
    await: (isAwaited) => (isAwaited ? worker.ref() : worker.unref()),
  };
}

/** Messages arrive in turns of their own, as they do from another thread, and nothing is copied. */
async function hostHere(data: WriterData): Promise<(events: HostEvents) => WriterHost> {
  const { serveWriter } = await import("./serve.ts");
  return ({ take, exited }) => {
    let listener: (message: ToWriter) => void;
    void serveWriter(data, {
      post: (message) => void setImmediate(take, message),
      listen: (listen) => {
        listener = listen;
      },
      close: () => void setImmediate(exited),
    });
    return {
      post: (message) => void setImmediate(() => listener(message)),
      // It waits for the disk alone, which keeps the process there by itself.
      await: () => undefined,
    };
  };
}

function closedError(): StoreError {
  return new StoreError(StoreErrorCode.closed, "the store is closed");
}

/** One byte (0 or 1) per chunk of a block: which were not there before. */
export function newOf(places: Float64Array, chunks: number): Uint8Array {
  const isNew = new Uint8Array(chunks);
  for (let at = 0; at < places.length; at += PLACE_NUMBERS) isNew[places[at]!] = 1;
  return isNew;
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
    // A store that was closed first has ended its writers too.
    this.#writer.closeWriter(this.#id);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #written({ places, ...written }: WriteAnswer): WrittenChunks {
    this.#pending.add(written.refs, places);
    return { ...written, isNew: newOf(places, written.refs.byteLength / REF_BYTES) };
  }

  #open(): number {
    if (this.#isClosed) throw new StoreError(StoreErrorCode.closed, "the writer is closed");
    return this.#id;
  }
}
