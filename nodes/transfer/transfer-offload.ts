/**
 * What the thread of a bulk channel does of transfers by itself: chunks that came as they are stored are verified and written where
 * they belong, and granted anew; and what was made ahead of credit leaves when credit comes. Whoever uses the channel hears of it
 * afterwards, of many messages at once, and has all that is out of the ordinary.
 */
import { Codec } from "../../packets/codec.ts";
import { refAt, refKey } from "../../packets/digest.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import { FILE_LACKING_MAX, TRANSFER_TOLD_BYTES, TRANSFER_TOLD_MS } from "../limits.ts";
import type { ArrivedMessage, Offload, OffloadContext, OutgoingMessage } from "../wire/bulk/dialing.ts";
import { AsideCredit } from "./replication/aside-credit.ts";
import {
  DataForm,
  RECORD_BYTES,
  TransferKind,
  costOf,
  decodeRows,
  decodeTransfer,
  encodeTransfer,
} from "./replication/messages.ts";
import type { FileCredit, FileData, StoredRows } from "./replication/messages.ts";
import { OutGate } from "./replication/out-gate.ts";
import type { Gate } from "./replication/out-gate.ts";
import type { Grant } from "./replication/receiver.ts";

/** Chunks that are expected, whole, and where they stand in an open file: lists of n rows. */
export interface ExpectedRows {
  readonly file: number;
  /** n × 32 bytes. */
  readonly refs: Uint8Array;
  readonly from: Float64Array;
  readonly bytes: Uint32Array;
}

export type ToTransferOffload =
  | { readonly kind: "expect"; readonly transfer: number; readonly rows: ExpectedRows }
  /** Credit of a run, or a new run, which is about to be asked for. */
  | ({ readonly kind: "grant" } & Grant)
  /** Nobody expects anything of it, and its file may be closed: where one was named, this is answered. */
  | { readonly kind: "over"; readonly transfer: number };

/** A message that was placed: what `PlacedAside` says of it, its chunks by their refs. */
export interface PlacedRows {
  readonly number: number;
  readonly cost: number;
  readonly bytes: number;
  readonly plainBytes: number;
  readonly compressedChunks: number;
  /** Of those that were right, and of those that were not: 32 bytes each. */
  readonly good: Uint8Array;
  readonly wrong: Uint8Array;
  /** Where those that were right stand: from and end, by turns. */
  readonly covered: Float64Array;
}

export interface PlacedMessages {
  readonly transfer: number;
  readonly run: number;
  readonly messages: readonly PlacedRows[];
  /** What was granted to the peer in all, and the bytes of messages that said so. */
  readonly granted: number;
  readonly sentBytes: number;
}

export type FromTransferOffload =
  | ({ readonly kind: "placed" } & PlacedMessages)
  /** The answer to "over", where chunks were expected: nothing is written to the file any more. */
  | { readonly kind: "released"; readonly transfer: number };

interface Expected {
  readonly from: number;
  readonly bytes: number;
}

interface Receiving {
  readonly transfer: number;
  /** Undefined before anything is expected. */
  file: number | undefined;
  /** By ref, the oldest first. */
  readonly rows: Map<string, Expected>;
  readonly credit: AsideCredit;
  /** What the channel's user does not know yet. */
  messages: PlacedRows[];
  sentBytes: number;
}

/** Calls it after so many milliseconds. Returns what keeps it from that. */
export type After = (milliseconds: number, happen: () => void) => () => void;

export class TransferOffload implements Offload {
  readonly #context: OffloadContext;
  readonly #after: After;
  readonly #gate: OutGate<OutgoingMessage>;
  readonly #receiving = new Map<number, Receiving>();
  /** Those of which there is something that the channel's user does not know. */
  readonly #untold = new Set<Receiving>();
  #untoldBytes = 0;
  #cancelTelling: (() => void) | undefined;

  constructor(context: OffloadContext, after: After = afterTime) {
    this.#context = context;
    this.#after = after;
    this.#gate = new OutGate({ pass: context.pass, drop: context.drop });
  }

  received(message: ArrivedMessage): boolean {
    const { type, head, body } = message;
    if (type === TransferKind.FILE_CREDIT) {
      const credit = decoded<FileCredit>(type, head, body.byteLength);
      if (credit !== undefined) this.#gate.granted(credit.transfer, credit.run, credit.granted);
      return false;
    }
    if (type !== TransferKind.FILE_DATA || this.#receiving.size === 0) return false;
    const data = decoded<FileData>(type, head, body.byteLength);
    const receiving = data && this.#receiving.get(data.transfer);
    if (receiving === undefined || receiving.credit.run !== data!.run || data!.form !== DataForm.stored)
      return false;
    return this.#place(receiving, data!, message);
  }

  told(said: unknown): void {
    const message = said as ToTransferOffload;
    switch (message.kind) {
      case "expect": {
        const { rows } = message;
        const receiving = this.#of(message.transfer);
        receiving.file = rows.file;
        for (let row = 0; row < rows.bytes.length; row++)
          expect(receiving, refKey(refAt(rows.refs, row)), {
            from: rows.from[row]!,
            bytes: rows.bytes[row]!,
          });
        return;
      }
      case "grant":
        return this.#granted(message);
      case "over": {
        this.flush();
        const { transfer } = message;
        const isOpen = this.#receiving.get(transfer)?.file !== undefined;
        this.#receiving.delete(transfer);
        this.#gate.over(transfer);
        if (isOpen) this.#tell({ kind: "released", transfer });
        return;
      }
    }
  }

  holds(message: OutgoingMessage): boolean {
    if (message.held === undefined) return false;
    this.#gate.send(message.held as Gate, message);
    return true;
  }

  flush(): void {
    this.#cancelTelling?.();
    this.#cancelTelling = undefined;
    this.#untoldBytes = 0;
    for (const receiving of this.#untold) {
      const { transfer, messages, sentBytes } = receiving;
      const { run, granted } = receiving.credit;
      [receiving.messages, receiving.sentBytes] = [[], 0];
      this.#tell({ kind: "placed", transfer, run, messages, granted, sentBytes });
    }
    this.#untold.clear();
  }

  close(): void {
    this.#cancelTelling?.();
    this.#receiving.clear();
    this.#untold.clear();
  }

  #tell(said: FromTransferOffload): void {
    this.#context.tell(said);
  }

  #of(transfer: number): Receiving {
    const known = this.#receiving.get(transfer);
    if (known !== undefined) return known;
    const receiving: Receiving = {
      transfer,
      file: undefined,
      rows: new Map(),
      credit: new AsideCredit(),
      messages: [],
      sentBytes: 0,
    };
    this.#receiving.set(transfer, receiving);
    return receiving;
  }

  #granted(grant: Grant): void {
    const receiving = this.#of(grant.transfer);
    // What was placed of the run before is told as that.
    if (grant.run > receiving.credit.run) this.flush();
    this.#grant(receiving, receiving.credit.grantedBy(grant));
  }

  #grant(receiving: Receiving, granted: number | undefined): void {
    if (granted === undefined) return;
    const { transfer, credit } = receiving;
    const said = { transfer, run: credit.run, granted, waiting: credit.waiting };
    const head = encodeTransfer({ kind: TransferKind.FILE_CREDIT, ...said });
    receiving.sentBytes += RECORD_BYTES + head.byteLength;
    this.#untold.add(receiving);
    this.#context.send(TransferKind.FILE_CREDIT, head);
  }

  #place(receiving: Receiving, data: FileData, { head, body }: ArrivedMessage): boolean {
    const rows = rowsOf(data, body.byteLength);
    const claimed = rows && claim(receiving, rows);
    if (claimed === undefined) return false;
    const { refs, storedBytes, plainBytes, codec } = rows!;
    const count = codec.length;
    const targets = {
      chunk: Uint32Array.from(claimed.keys()),
      file: new Uint32Array(count),
      offset: Float64Array.from(claimed, ({ from }) => from),
    };
    let good: Uint8Array;
    try {
      const placement = { refs, storedBytes, plainBytes, codec, files: [receiving.file!], targets };
      good = this.#context.place(body, placement).good;
    } catch {
      // Who has the channel tries it again, and says what came of it.
      claimed.forEach((expected, row) => expect(receiving, refKey(refAt(refs, row)), expected));
      return false;
    }
    const cost = costOf(data.packets.byteLength, body.byteLength);
    const placed = { number: data.number, cost, bytes: head.byteLength + body.byteLength };
    receiving.messages.push({ ...placed, ...outcomeOf(receiving, rows!, claimed, good) });
    this.#untold.add(receiving);
    this.#grant(receiving, receiving.credit.placed(cost));
    this.#untoldBytes += cost;
    if (this.#untoldBytes >= TRANSFER_TOLD_BYTES || good.includes(0)) this.flush();
    else this.#cancelTelling ??= this.#after(TRANSFER_TOLD_MS, () => this.flush());
    return true;
  }
}

function afterTime(milliseconds: number, happen: () => void): () => void {
  const timer = setTimeout(happen, milliseconds);
  return () => clearTimeout(timer);
}

function decoded<Message>(type: number, head: Uint8Array, bodyBytes: number): Message | undefined {
  try {
    return decodeTransfer(type, head, bodyBytes) as Message;
  } catch {
    // Who has the channel says what is wrong with it.
    return undefined;
  }
}

function rowsOf({ packets }: FileData, bodyBytes: number): StoredRows | undefined {
  try {
    return decodeRows(packets, bodyBytes);
  } catch {
    return undefined;
  }
}

/** Each of them is expected no more; undefined, and nothing has changed, where one of them is not. */
function claim({ rows: expected }: Receiving, { refs, plainBytes }: StoredRows): Expected[] | undefined {
  const keys: string[] = [];
  const claimed: Expected[] = [];
  for (let row = 0; row < plainBytes.length; row++) {
    const key = refKey(refAt(refs, row));
    const found = expected.get(key);
    if (found === undefined || found.bytes !== plainBytes[row]) return undefined;
    keys.push(key);
    claimed.push(found);
  }
  // One chunk twice is nothing that an honest peer sends, and not dealt with here.
  if (new Set(keys).size < keys.length) return undefined;
  for (const key of keys) expected.delete(key);
  return claimed;
}

function expect({ rows }: Receiving, key: string, expected: Expected): void {
  if (rows.size >= FILE_LACKING_MAX) rows.delete(rows.keys().next().value!);
  rows.set(key, expected);
}

function outcomeOf(
  receiving: Receiving,
  { refs, codec }: StoredRows,
  claimed: readonly Expected[],
  good: Uint8Array,
): Pick<PlacedRows, "plainBytes" | "compressedChunks" | "good" | "wrong" | "covered"> {
  const [right, wrong]: [Uint8Array[], Uint8Array[]] = [[], []];
  const covered: number[] = [];
  let [plainBytes, compressedChunks] = [0, 0];
  claimed.forEach((expected, row) => {
    const { from, bytes } = expected;
    const ref = refs.subarray(row * REF_BYTES, (row + 1) * REF_BYTES);
    if (good[row] !== 1) {
      wrong.push(ref);
      expect(receiving, refKey(refAt(refs, row)), expected);
      return;
    }
    right.push(ref);
    plainBytes += bytes;
    if (codec[row] !== Codec.plain) compressedChunks++;
    if (covered.at(-1) === from) covered[covered.length - 1] = from + bytes;
    else covered.push(from, from + bytes);
  });
  return {
    plainBytes,
    compressedChunks,
    good: wrong.length === 0 ? refs : Buffer.concat(right),
    wrong: Buffer.concat(wrong),
    covered: Float64Array.from(covered),
  };
}
