/**
 * A bulk channel where its bytes are: in a thread, around its socket.
 *
 *     begun ──the peer's hello──▶ open ──end, of either side──▶ ended ─▶ gone
 *       └──────────────── cut, damaged, closed at once ─────────────────────▲
 *
 * What came stays here until its receiver says what becomes of it. While that is much, nothing more is read, and so the
 * sender's system takes nothing more of it, and so the sender reads nothing more of its files.
 */
import type { Socket } from "node:net";
import { errorToJson, messageOf } from "../../../packets/errors.ts";
import type { PacketfsError } from "../../../packets/errors.ts";
import { SpareMemory } from "../../../runtime/spare-memory.ts";
import {
  BULK_BODY_BYTES_MAX,
  BULK_HELD_BYTES_MAX,
  BULK_READ_AHEAD,
  BULK_SENT_BYTES,
  BULK_SENT_MS,
  BULK_SPARE_BLOCKS_MAX,
  BULK_UNWRITTEN_BYTES_MAX,
  MESSAGE_COST_BYTES,
} from "../../limits.ts";
import { closedHere } from "../session/errors.ts";
import { bulkCut, closedThere } from "./errors.ts";
import { channelKey, Direction } from "./keys.ts";
import type { Agreement } from "./keys.ts";
import type { MakeOffload, Offload, OutgoingMessage } from "./offload.ts";
import { OpenFiles } from "./open-files.ts";
import { place, placeNow } from "./placing.ts";
import type { FromBulk, Placement } from "./protocol.ts";
import { discard, RecordKind, RecordOpener, RecordSealer } from "./record.ts";
import type { OpenedRecord } from "./record.ts";

/** What the channels of a thread share. */
export class BulkResources {
  readonly memory: SpareMemory = new SpareMemory(BULK_BODY_BYTES_MAX, BULK_SPARE_BLOCKS_MAX);
  readonly sources: OpenFiles = new OpenFiles("r");
  readonly targets: OpenFiles = new OpenFiles("r+");

  close(): void {
    this.sources.close();
    this.targets.close();
  }
}

export interface ThreadChannelOptions {
  readonly channel: number;
  readonly agreement: Agreement;
  /** Whether this is the port's end. */
  readonly isPort: boolean;
  readonly resources: BulkResources;
  readonly tell: (message: FromBulk, transferred?: readonly ArrayBuffer[]) => void;
  /** It is over, and nothing of it is here any more. */
  readonly onGone: () => void;
  readonly makeOffload: MakeOffload;
}

interface Queued {
  readonly message: OutgoingMessage;
  /** Its body, once it is being read. */
  body: Promise<Uint8Array> | undefined;
}

interface Held {
  /** Memory of its own. */
  readonly body: Uint8Array<ArrayBuffer>;
  readonly cost: number;
  isBusy: boolean;
}

const NOTHING: Uint8Array<ArrayBuffer> = new Uint8Array(0);

/** Of messages of the offload, of which nobody hears when they are sent. */
const OF_OFFLOAD = {
  kind: "send",
  id: 0,
  body: { kind: "none" },
  hasClearBody: false,
  fillsUnreadable: false,
} as const;

export class ThreadChannel {
  readonly #options: ThreadChannelOptions;
  readonly #sealer: RecordSealer;
  readonly #opener: RecordOpener;
  #socket: Socket | undefined;
  readonly #queue: Queued[] = [];
  #isPumping = false;
  #isEnding = false;
  #roomWanted: (() => void) | undefined;
  /** Messages that the system has, of which nothing was told yet. */
  #sent: number[] = [];
  #sentBytes = 0;
  #telling: NodeJS.Timeout | undefined;
  readonly #held = new Map<number, Held>();
  #heldBytes = 0;
  #isPaused = false;
  #lastMessage = 0;
  #error: PacketfsError | undefined;
  readonly #offload: Offload;

  constructor(options: ThreadChannelOptions) {
    this.#options = options;
    this.#offload = this.#makeOffload(options.makeOffload);
    const { agreement, isPort, resources } = options;
    const [mine, theirs] = isPort
      ? [Direction.fromPort, Direction.toPort]
      : [Direction.toPort, Direction.fromPort];
    this.#sealer = new RecordSealer(channelKey(agreement, mine));
    this.#opener = new RecordOpener({
      key: channelKey(agreement, theirs),
      isClear: agreement.isClear,
      sink: {
        memory: (bytes) => resources.memory.take(bytes),
        unused: (memory) => resources.memory.giveBack(memory.buffer),
        opened: (record) => this.#opened(record),
      },
    });
  }

  /** Whether the hello of a dialing side is the one that belongs to the ticket. */
  isGreetedBy(hello: Uint8Array): boolean {
    try {
      this.#opener.push(hello);
      return true;
    } catch {
      return false;
    }
  }

  /** Has the connection from now on: what is read of it comes to `receive`. `greeting` is what is said before everything else. */
  start(socket: Socket, greeting: Uint8Array): void {
    this.#socket = socket;
    socket.on("close", () => this.#lineEnded());
    socket.on("error", (error) => this.#fail(bulkCut(messageOf(error), error)));
    const hello = this.#sealer.seal({ kind: RecordKind.hello });
    socket.write(Buffer.concat([greeting, ...hello]));
  }

  /** Bytes of the line. Whether more of them may come at once. */
  receive(bytes: Uint8Array): boolean {
    if (this.#error !== undefined) return true;
    try {
      this.#opener.push(bytes);
    } catch (error) {
      this.#fail(error as PacketfsError);
      return true;
    }
    this.#isPaused = this.#heldBytes > BULK_HELD_BYTES_MAX;
    if (this.#isPaused) this.#socket?.pause();
    return !this.#isPaused;
  }

  send(message: OutgoingMessage): void {
    if (this.#error !== undefined || this.#isEnding || this.#offload.holds(message)) return;
    this.#pass(message);
  }

  /** What the channel's user says to the offload. */
  told(said: unknown): void {
    if (this.#error === undefined) this.#offload.told(said);
  }

  #makeOffload(make: MakeOffload): Offload {
    const { channel, resources } = this.#options;
    return make({
      send: (type, head) => this.#pass({ ...OF_OFFLOAD, channel, type, head }),
      pass: (message) => this.#pass(message),
      drop: ({ id }) => this.#wasSent(id, 0),
      place: (body, placement) => placeNow(body, placement, resources.targets),
      tell: (said) => this.#options.tell({ kind: "offloaded", channel, said }),
    });
  }

  #pass(message: OutgoingMessage): void {
    if (this.#error !== undefined || this.#isEnding) return;
    this.#queue.push({ message, body: undefined });
    this.#readAhead();
    void this.#pump();
  }

  take(message: number): void {
    const held = this.#held.get(message);
    if (held === undefined || held.isBusy) return;
    const { channel } = this.#options;
    const body = held.body.byteLength > 0 ? held.body : new Uint8Array(0);
    this.#tell({ kind: "taken", channel, message, body }, [body.buffer]);
    // Then it may be gone, which is the last word about it.
    this.#release(message, held);
  }

  async place(message: number, placement: Placement): Promise<void> {
    const held = this.#held.get(message);
    if (held === undefined || held.isBusy) return;
    held.isBusy = true;
    const { channel, resources } = this.#options;
    try {
      const placed = await place(held.body, placement, resources.targets);
      this.#tell(
        { kind: "placed", channel, message, placed },
        placed.plain === undefined ? [] : [placed.plain.buffer],
      );
    } catch (error) {
      this.#tell({ kind: "not-placed", channel, message, error: errorToJson(error) });
    }
    held.isBusy = false;
    this.drop(message);
  }

  drop(message: number): void {
    const held = this.#held.get(message);
    if (held === undefined || held.isBusy) return;
    this.#options.resources.memory.giveBack(held.body.buffer);
    this.#release(message, held);
  }

  /** Ends it when everything that was to be sent has left. */
  close(): void {
    this.#isEnding = true;
    void this.#pump();
  }

  /** Ends it at once. */
  cut(): void {
    this.#fail(closedHere());
  }

  #opened(record: OpenedRecord): void {
    const { channel } = this.#options;
    switch (record.kind) {
      case RecordKind.hello:
        // A port's channel is open when its dialing side has shown that it has the key.
        return this.#tell({ kind: "opened", channel });
      case RecordKind.end:
        return this.#endedByPeer();
      case RecordKind.message: {
        const { type, head, body, hasClearBody } = record;
        if (this.#offload.received({ type, head, body })) {
          this.#options.resources.memory.giveBack(body.buffer);
          return;
        }
        const message = ++this.#lastMessage;
        const cost = MESSAGE_COST_BYTES + head.byteLength + body.byteLength;
        this.#held.set(message, { body, cost, isBusy: false });
        this.#heldBytes += cost;
        const bodyBytes = body.byteLength;
        return this.#tell({ kind: "message", channel, message, type, head, bodyBytes, hasClearBody });
      }
    }
  }

  /** Each message to the thread that uses the channel wakes it: what nobody waits for goes with others. */
  #wasSent(id: number, bytes: number): void {
    if (id === OF_OFFLOAD.id) return;
    this.#sent.push(id);
    this.#sentBytes += bytes;
    if (this.#sentBytes >= BULK_SENT_BYTES) this.#tellSent();
    else this.#telling ??= setTimeout(() => this.#tellSent(), BULK_SENT_MS);
  }

  #tellSent(): void {
    clearTimeout(this.#telling);
    this.#telling = undefined;
    const ids = this.#sent;
    if (ids.length === 0) return;
    [this.#sent, this.#sentBytes] = [[], 0];
    this.#options.tell({ kind: "sent", channel: this.#options.channel, ids });
  }

  #tell(message: FromBulk, transferred: readonly ArrayBuffer[] = []): void {
    this.#offload.flush();
    this.#tellSent();
    this.#options.tell(message, transferred);
  }

  #release(message: number, { cost }: Held): void {
    this.#held.delete(message);
    this.#heldBytes -= cost;
    if (this.#isPaused && this.#heldBytes <= BULK_HELD_BYTES_MAX / 2) {
      this.#isPaused = false;
      this.#socket?.resume();
    }
    this.#checkGone();
  }

  /** Files of the next messages are read while the ones before them are being sealed and written. */
  #readAhead(): void {
    const { sources, memory } = this.#options.resources;
    for (const queued of this.#queue.slice(0, BULK_READ_AHEAD)) {
      const { body, fillsUnreadable } = queued.message;
      if (body.kind !== "ranges" || queued.body !== undefined) continue;
      const block = memory.take(body.bytes);
      queued.body = sources.read(body.ranges, block).then(
        () => block,
        (error) => {
          if (!fillsUnreadable) throw error;
          return block.fill(0);
        },
      );
      // Somebody waits for it later.
      queued.body.catch(() => memory.giveBack(block.buffer));
    }
  }

  async #pump(): Promise<void> {
    if (this.#isPumping) return;
    this.#isPumping = true;
    while (this.#error === undefined) {
      // From here on its memory is nobody else's to give back.
      const next = this.#queue.shift();
      if (next === undefined) break;
      this.#readAhead();
      await this.#sendNext(next);
    }
    this.#isPumping = false;
    if (this.#isEnding && this.#error === undefined) this.#end();
  }

  async #sendNext({ message, body: reading }: Queued): Promise<void> {
    const { channel } = this.#options;
    const { id, type, head, hasClearBody } = message;
    let body: Uint8Array;
    try {
      body = message.body.kind === "bytes" ? message.body.bytes : ((await reading) ?? NOTHING);
    } catch (error) {
      return this.#tell({ kind: "not-sent", channel, id, error: errorToJson(error) });
    }
    const done = (): void => this.#bodyDone(message, body);
    if (this.#error !== undefined) return done();
    const pieces = this.#sealer.seal({ kind: RecordKind.message, type, head, body, hasClearBody });
    if (!hasClearBody) done();
    await this.#write(pieces, (isWritten) => {
      for (const piece of pieces) if (piece !== body) discard(piece);
      if (hasClearBody) done();
      if (isWritten) this.#wasSent(id, head.byteLength + body.byteLength);
    });
  }

  /** The memory of a body that was sent is used again, or given up at once. */
  #bodyDone({ body: { kind } }: OutgoingMessage, body: Uint8Array): void {
    if (kind === "ranges") this.#options.resources.memory.giveBack(body.buffer);
    else discard(body);
  }

  /** Resolves when there is room for more. */
  async #write(pieces: readonly Uint8Array[], done: (isWritten: boolean) => void): Promise<void> {
    const socket = this.#socket;
    if (socket === undefined) return;
    socket.cork();
    const last = pieces.length - 1;
    for (const [index, piece] of pieces.entries()) {
      if (index < last) socket.write(piece);
      else
        socket.write(piece, (error) => {
          done(error === null || error === undefined);
          this.#roomWanted?.();
        });
    }
    socket.uncork();
    while (socket.writableLength > BULK_UNWRITTEN_BYTES_MAX && this.#error === undefined) {
      await new Promise<void>((resolve) => (this.#roomWanted = resolve));
    }
  }

  #end(): void {
    const socket = this.#socket;
    if (socket === undefined || socket.writableEnded) return;
    // The peer answers with its own end when it has read everything, however long that takes: as long as the session lives.
    socket.end(Buffer.concat(this.#sealer.seal({ kind: RecordKind.end })));
  }

  #endedByPeer(): void {
    if (this.#isEnding) return this.#over(closedHere());
    this.#isEnding = true;
    this.#over(closedThere());
    this.#end();
  }

  #lineEnded(): void {
    if (this.#error !== undefined) return this.#checkGone();
    try {
      this.#opener.lineEnded();
      this.#over(closedHere());
    } catch (error) {
      this.#over(this.#isEnding ? closedHere() : (error as PacketfsError));
    }
  }

  #fail(error: PacketfsError): void {
    this.#over(error);
    this.#opener.close();
    this.#socket?.destroy();
    this.#checkGone();
  }

  #over(error: PacketfsError): void {
    if (this.#error !== undefined) return;
    this.#error = error;
    const { channel } = this.#options;
    this.#offload.flush();
    this.#offload.close();
    this.#roomWanted?.();
    for (const { message, body } of this.#queue.splice(0)) {
      void body?.then(
        (block) => this.#bodyDone(message, block),
        () => undefined,
      );
    }
    this.#tell({ kind: "closed", channel, error: errorToJson(error) });
    this.#checkGone();
  }

  /** What came before its end can still be taken. */
  #checkGone(): void {
    if (this.#error === undefined || this.#held.size > 0 || this.#socket?.destroyed === false) return;
    this.#options.onGone();
  }
}
