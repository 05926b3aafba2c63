/**
 * One connection of a proxy: the side that dialed, and the side that leads to the ROUTER.
 *
 *     greeting ──INITIATE is whole──▶ waiting ──its turn──▶ admitted ──the ROUTER has it──▶ open ──▶ gone
 *        └── foreign, late ──▶ gone     └── one too many ──▶ gone  └── refused ─────▶ gone
 *        └── a bulk channel that is expected ──▶ gone from here
 *
 * While it is open, what went into the ROUTER and did not come out of it is counted: libzmq hands over whole messages only,
 * and bounds their parts but not their number.
 */
import type { OnReadOpts, Socket } from "node:net";
import { CONNECTION_LINGER_MS, FLOOD_TICKS, UNDELIVERED_BYTES_MAX } from "../../limits.ts";
import { plainIp } from "../trust/address.ts";
import { BULK_BEGINNING_BYTES, readBulkBeginning, startsLikeBulk } from "../bulk/beginning.ts";
import type { BulkBeginning } from "../bulk/beginning.ts";
import type { Account, KeyBudget } from "./key-budget.ts";
import { CLOSING_INDEX, TICKS_INDEX } from "./proxy-protocol.ts";
import type { ProxyCounters } from "./proxy-protocol.ts";
import { GREETING_BYTES, INITIATE_AT, WRONG_KEY, readBeginning } from "./zmtp.ts";

/** What comes with a connection that would be a bulk channel: its beginning, and what was said behind it. */
export type AcceptBulk = (beginning: BulkBeginning, client: Socket, rest: Buffer) => boolean;

export interface ProxiedConnectionOptions {
  readonly number: number;
  readonly client: Socket;
  /** By the loop's clock. */
  readonly since: number;
  readonly counters: ProxyCounters;
  readonly acceptBulk: AcceptBulk;
  readonly connectInner: (onread: OnReadOpts) => Socket;
  readonly onWaiting: () => void;
  readonly onForeign: () => void;
  readonly onFull: (isFull: boolean) => void;
  readonly onGone: (wasAdmitted: boolean) => void;
}

const NOTHING = Buffer.alloc(0);
/** What is read of the ROUTER at once: little, and more once there is more. */
const READ_BYTES = 4 * 1024;
const READ_BYTES_MAX = 64 * 1024;

type State = "greeting" | "waiting" | "admitted" | "refused" | "open" | "gone";

export class ProxiedConnection implements Account {
  readonly number: number;
  /** The peer's IP address. */
  readonly address: string;
  readonly since: number;
  readonly #options: ProxiedConnectionOptions;
  readonly #client: Socket;
  #inner: Socket | undefined;
  /** What the ROUTER says is read into the same memory again and again, and whether it is still needed as it is. */
  #readInto = NOTHING;
  #isReadHeld = false;
  #isReadFull = false;
  #state: State = "greeting";
  /** What the client said, until the ROUTER has it, how many bytes of it the ROUTER got, and where its INITIATE ends. */
  #said: Buffer = NOTHING;
  #passed = 0;
  #initiateEnd = 0;
  /** Bytes that the ROUTER said before it is asked to admit anybody. */
  #answered = 0;
  #isClientGone = false;
  /** Bytes that the ROUTER got since it has the connection, as its counter counts. */
  #forwarded = 0;
  #counter = TICKS_INDEX;
  /** Of its key, once that is known. */
  #budget: KeyBudget<ProxiedConnection> | undefined;
  /** Whether no more is read of it, and whether that is only because of others of its key. */
  #isFull = false;
  #waitsForOthers = false;
  #isInnerFull = false;
  /** What was undelivered when it was looked at last, and the port's tick when that changed. */
  #undeliveredThen = 0;
  #tickThen = 0;

  constructor(options: ProxiedConnectionOptions) {
    const { number, client, since } = options;
    this.#options = options;
    this.#client = client;
    this.number = number;
    this.since = since;
    this.address = plainIp(client.remoteAddress ?? "");
    client.on("data", (bytes) => this.#heard(bytes));
    client.on("drain", () => this.#inner?.resume());
    client.on("close", () => this.#clientGone());
    client.on("error", () => undefined);
  }

  get isWaiting(): boolean {
    return this.#state === "waiting";
  }

  /** Its turn has come: the ROUTER reads its INITIATE, and asks about its key. */
  admit(): void {
    this.#state = "admitted";
    this.#pass(this.#initiateEnd);
  }

  get undelivered(): number {
    return (this.#forwarded - this.delivered) | 0;
  }

  get delivered(): number {
    return Atomics.load(this.#options.counters, this.#counter);
  }

  /** The ROUTER has it, and counts there what comes out of it. */
  open(counter: number, budget: KeyBudget<ProxiedConnection>): void {
    if (this.#state !== "admitted") return;
    this.#state = "open";
    this.#counter = counter;
    this.#budget = budget;
    budget.add(this);
    const rest = this.#said.subarray(this.#passed);
    this.#said = NOTHING;
    if (rest.byteLength > 0) this.#forward(rest);
    if (this.#isClientGone) this.#endInner();
    else this.#client.resume();
  }

  /** The ROUTER says so to the other side, which is to go then. */
  refuse(): void {
    if (this.#state !== "admitted") return;
    this.#state = "refused";
    this.#client.resume();
    if (this.#isClientGone) return this.#endInner();
    const linger = setTimeout(() => this.cut(), CONNECTION_LINGER_MS);
    this.#client.once("close", () => clearTimeout(linger));
  }

  /**
   * To be called at every tick while it is full. Goes on reading when there is room again; otherwise returns who is to be cut
   * because nothing of it comes out although the ROUTER has read it all: itself, or another of its key for which it waits. A
   * message that is allowed is much smaller than what the ROUTER has of one connection then, so that is one without end.
   */
  look(time: number): ProxiedConnection | undefined {
    const { undelivered } = this;
    const budget = this.#budget!;
    if (this.#waitsForOthers) {
      if (!budget.hasRoomFor(this)) return budget.stalled(time);
      this.#setFull(false);
      return undefined;
    }
    const tick = Atomics.load(this.#options.counters, TICKS_INDEX);
    if (undelivered < UNDELIVERED_BYTES_MAX / 2) this.#setFull(false);
    if (undelivered !== this.#undeliveredThen || this.#inner!.writableLength > 0) {
      this.#undeliveredThen = undelivered;
      this.#tickThen = tick;
    }
    return ((tick - this.#tickThen) | 0) > FLOOD_TICKS ? this : undefined;
  }

  /** Ends it at once, on both sides. */
  cut(): void {
    this.#client.destroy();
    this.#inner?.destroy();
    this.#end();
  }

  #heard(bytes: Buffer): void {
    if (this.#state === "open") return this.#forward(bytes);
    if (this.#state === "refused") return;
    this.#said = this.#said.byteLength === 0 ? bytes : Buffer.concat([this.#said, bytes]);
    if (startsLikeBulk(this.#said)) return this.#heardBulk();
    const beginning = readBeginning(this.#said);
    switch (beginning.kind) {
      case "foreign":
        this.#options.onForeign();
        return this.cut();
      case "begun":
        return;
      case "greeted":
        return this.#pass(beginning.passable);
      case "initiated":
        this.#pass(beginning.initiateAt);
        this.#initiateEnd = beginning.initiateEnd;
        this.#client.pause();
        this.#state = "waiting";
        return this.#options.onWaiting();
    }
  }

  /** It is no ZMTP at all. Where a channel takes it, it is no connection of the ROUTER's, and nothing of it is left here. */
  #heardBulk(): void {
    const client = this.#client;
    const beginning = readBulkBeginning(this.#said);
    if (beginning === undefined) return;
    const rest = this.#said.subarray(BULK_BEGINNING_BYTES);
    for (const event of ["data", "drain", "close", "error"]) client.removeAllListeners(event);
    if (this.#options.acceptBulk(beginning, client, rest)) return this.#end();
    client.on("error", () => undefined);
    this.#options.onForeign();
    this.cut();
  }

  #pass(until: number): void {
    this.#inner ??= this.#connect();
    if (until > this.#passed) this.#inner.write(this.#said.subarray(this.#passed, until));
    this.#passed = until;
  }

  #connect(): Socket {
    // A buffer for each read, as streams have it, costs more than all else here.
    const inner = this.#options.connectInner({
      buffer: () => this.#readBuffer(),
      callback: (bytes, buffer) => this.#answer(Buffer.from(buffer.buffer, buffer.byteOffset, bytes)),
    });
    inner.on("drain", () => {
      this.#isInnerFull = false;
      this.#readOn();
    });
    inner.on("close", () => this.#innerGone());
    inner.on("error", () => undefined);
    return inner;
  }

  #readBuffer(): Buffer {
    const bytes = this.#isReadFull ? READ_BYTES_MAX : Math.max(READ_BYTES, this.#readInto.byteLength);
    if (this.#isReadHeld || bytes !== this.#readInto.byteLength)
      this.#readInto = Buffer.allocUnsafeSlow(bytes);
    this.#isReadHeld = false;
    return this.#readInto;
  }

  /** The ROUTER says something; it reads on all the same. */
  #answer(bytes: Buffer): boolean {
    const client = this.#client;
    if (this.#state === "greeting") this.#answered += bytes.byteLength;
    this.#isReadFull = bytes.byteLength === this.#readInto.byteLength;
    client.write(bytes);
    // What the system did not take at once stays where it is until it does.
    this.#isReadHeld = client.writableLength > 0;
    if (this.#isReadHeld && client.writableNeedDrain) this.#inner?.pause();
    return true;
  }

  #forward(bytes: Buffer): void {
    const inner = this.#inner!;
    this.#forwarded = (this.#forwarded + bytes.byteLength) | 0;
    if (!inner.write(bytes) && inner.writableLength > 0) {
      this.#isInnerFull = true;
      this.#client.pause();
    }
    if (this.#isFull) return;
    const isOver = this.undelivered > UNDELIVERED_BYTES_MAX;
    if (!isOver && this.#budget!.hasRoomFor(this)) return;
    this.#waitsForOthers = !isOver;
    this.#setFull(true);
  }

  #setFull(isFull: boolean): void {
    this.#isFull = isFull;
    this.#undeliveredThen = 0;
    this.#options.onFull(isFull);
    if (isFull) this.#client.pause();
    else this.#readOn();
  }

  #readOn(): void {
    if (this.#state === "open" && !this.#isFull && !this.#isInnerFull) this.#client.resume();
  }

  #clientGone(): void {
    this.#isClientGone = true;
    // Whoever is being admitted stays until the ROUTER has it, or has refused it: others are let in after that.
    if (this.#state === "open" || this.#state === "refused") this.#endInner();
    else if (this.#state === "admitted") this.#inner?.resume();
    else this.cut();
  }

  /** The ROUTER still reads what was said before. */
  #endInner(): void {
    this.#inner?.end();
    this.#inner?.resume();
  }

  #innerGone(): void {
    const client = this.#client;
    if (!client.destroyed) {
      if (this.#wasForAnotherKey()) client.end(WRONG_KEY);
      else client.end();
      const linger = setTimeout(() => client.destroy(), CONNECTION_LINGER_MS);
      client.once("close", () => clearTimeout(linger));
      client.resume();
    }
    this.#end();
  }

  /** The ROUTER has heard a HELLO and ends the connection without having answered it, though it is not being closed. */
  #wasForAnotherKey(): boolean {
    if (this.#state !== "greeting" || this.#passed < INITIATE_AT) return false;
    if (this.#answered !== GREETING_BYTES || this.#inner?.errored !== null) return false;
    return Atomics.load(this.#options.counters, CLOSING_INDEX) === 0;
  }

  #end(): void {
    if (this.#state === "gone") return;
    const wasAdmitted = this.#state === "admitted";
    this.#state = "gone";
    this.#said = NOTHING;
    this.#budget?.delete(this);
    this.#options.onGone(wasAdmitted);
  }
}
