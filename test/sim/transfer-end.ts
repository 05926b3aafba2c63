/**
 * One end of a simulated channel: its core; the real one of what a channel's thread does by itself; and what the two hear of each
 * other, in order and later.
 */
import { BULK_BODY_BYTES_MAX } from "../../nodes/limits.ts";
import { TransferKind } from "../../nodes/transfer/replication/messages.ts";
import type { DataForm } from "../../nodes/transfer/replication/messages.ts";
import type { FileReceiver } from "../../nodes/transfer/replication/receiver.ts";
import { Transfers } from "../../nodes/transfer/replication/transfers.ts";
import type { TransferAction } from "../../nodes/transfer/replication/transfers.ts";
import { TransferOffload } from "../../nodes/transfer/transfer-offload.ts";
import type { After, FromTransferOffload, ToTransferOffload } from "../../nodes/transfer/transfer-offload.ts";
import type { OutgoingMessage, Placed, Placement } from "../../nodes/wire/bulk/dialing.ts";
import type { Ref } from "../../packets/digest.ts";
import type { PacketfsError } from "../../packets/errors.ts";
import { CreditLedger } from "./credit-ledger.ts";
import { Lane } from "./lane.ts";
import type { LaneOptions } from "./lane.ts";

export interface SimChunk {
  readonly ref: Ref;
  readonly key: string;
  readonly from: number;
  readonly end: number;
}

export interface SimFile {
  readonly root: Ref;
  readonly length: number;
  readonly chunks: readonly SimChunk[];
}

/** A body: which chunks, and whether their bytes are right. */
export interface SimBody {
  readonly bytes: number;
  readonly chunks: readonly { readonly ref: Ref; readonly isGood: boolean }[];
  readonly isReadable: boolean;
}

export interface SimMessage {
  readonly type: TransferKind;
  readonly head: Uint8Array;
  readonly body?: SimBody | undefined;
  readonly cost: number;
}

/** What a client would have done. */
export interface Task {
  readonly kind: "get" | "put";
  readonly file: SimFile;
  readonly name: string | undefined;
  readonly bases: readonly SimFile[];
  readonly isUrgent: boolean;
  /** Bytes of it that were lacking at the beginning. */
  readonly lackingBytes: number;
  failures: number;
  isCancelled: boolean;
  outcome: "open" | "right" | PacketfsError;
  /** Bytes of its bodies that left a sender, and how often it began again. */
  sentBytes: number;
  begun: number;
}

export interface Walk {
  readonly file: SimFile;
  readonly chunks: readonly SimChunk[];
  readonly form: DataForm;
  /** Of most messages, at most. */
  readonly bodyBytes: number;
  next: number;
}

export interface Receiving {
  readonly receiver: FileReceiver<SimBody>;
  readonly bases: readonly SimFile[];
  readonly file: SimFile;
  /** How many of its chunks the thread may place, where they come as they are stored. */
  readonly aside: number;
  /** Whether something came of it since it was begun again. */
  isFruitful: boolean;
}

/** What a machine has when it is started again. */
export class Machine {
  readonly chunks: Set<string> = new Set();
  readonly damaged: Set<string> = new Set();
  readonly journals: Map<string, Uint8Array> = new Map();
  readonly files: Map<string, SimFile> = new Map();
  life = 0;
}

/** What an end wants of its world. */
export interface EndOptions {
  readonly lane: LaneOptions;
  readonly after: After;
  readonly travel: (message: SimMessage) => void;
  readonly place: (body: SimBody, placement: Placement) => Placed;
  readonly said: (said: FromTransferOffload) => void;
}

/** Nobody looks at them. */
const BYTES = new Uint8Array(BULK_BODY_BYTES_MAX);

export class End {
  readonly machine: Machine;
  readonly transfers: Transfers<SimBody>;
  readonly walks: Map<number, Walk> = new Map();
  readonly receivers: Map<number, Receiving> = new Map();
  /** Those that the thread may write to, by their transfers. */
  readonly files: Map<number, SimFile> = new Map();
  /** The client's. */
  readonly tasks: Map<number, Task> = new Map();
  readonly credit: CreditLedger = new CreditLedger();
  readonly #offload: TransferOffload;
  readonly #travel: (message: SimMessage) => void;
  readonly #toThread: Lane;
  readonly #toUser: Lane;
  /** Messages that the thread was given, by their numbers. */
  readonly #given = new Map<number, SimMessage>();
  #lastGiven = 0;
  #arriving: SimBody | undefined;
  peer!: End;
  /** When the last message that is under way arrives: the next one does not overtake it. */
  arrival = 0;
  heardAt = 0;
  /** Nothing leaves any more. */
  isOver = false;
  /** Bytes that the thread has placed, and that the core has not heard of. */
  untoldBytes = 0;

  constructor(machine: Machine, isDialer: boolean, { lane, after, travel, place, said }: EndOptions) {
    this.machine = machine;
    this.transfers = new Transfers({ isDialer, bodyBytes: ({ bytes }: SimBody) => bytes });
    this.#toThread = new Lane(lane);
    this.#toUser = new Lane(lane);
    this.#travel = (message) => {
      if (!this.isOver) travel(message);
    };
    this.#offload = new TransferOffload(
      {
        send: (type, head) => this.#travel({ type: type as TransferKind, head, cost: 0 }),
        pass: (message) => this.#travel(this.#take(message)),
        drop: (message) => this.left(this.#take(message).cost),
        place: (_, placement) => {
          const placed = place(this.#arriving!, placement);
          placement.plainBytes.forEach((bytes, row) => (this.untoldBytes += bytes * placed.good[row]!));
          return placed;
        },
        tell: (something) => {
          this.#toUser.tell(() => {
            const told = something as FromTransferOffload;
            if (told.kind === "placed")
              for (const { plainBytes } of told.messages) this.untoldBytes -= plainBytes;
            said(told);
          });
        },
      },
      after,
    );
  }

  /** The core sends this. */
  send({ type, head, body, cost, gate, grant }: TransferAction<SimBody> & { readonly kind: "send" }): void {
    if (grant !== undefined) this.tell({ kind: "grant", ...grant });
    if (grant !== undefined && type === TransferKind.FILE_CREDIT) return;
    this.#toThread.tell(() => {
      const message = { type, head, body, cost };
      const id = ++this.#lastGiven;
      const held = gate === undefined ? {} : { held: gate };
      const given: OutgoingMessage = {
        kind: "send",
        channel: 0,
        id,
        type,
        head,
        body: { kind: "none" },
        hasClearBody: false,
        fillsUnreadable: false,
        ...held,
      };
      this.#given.set(id, message);
      if (!this.#offload.holds(given)) this.#travel(this.#take(given));
    });
  }

  /** Says something to the thread. */
  tell(said: ToTransferOffload): void {
    this.#toThread.tell(() => this.#offload.told(said));
  }

  /** A message came, which the thread deals with, or `hear` is called, later. */
  arrives({ type, head, body }: SimMessage, hear: () => void): void {
    this.#arriving = body;
    if (this.#offload.received({ type, head, body: BYTES.subarray(0, body?.bytes ?? 0) })) return;
    this.#offload.flush();
    this.#toUser.tell(hear);
  }

  /** What the core sent, of that cost, has left, or never will. */
  left(cost: number): void {
    if (cost > 0) this.#toUser.tell(() => this.transfers.sender.left(cost));
  }

  /** The channel is over. Of what its thread has done the core hears before, unless that is gone with it. */
  over(isTold: boolean): void {
    this.isOver = true;
    this.#toThread.cut();
    if (isTold) this.#offload.flush();
    this.#offload.close();
    if (isTold) this.#toUser.end();
    else this.#toUser.cut();
  }

  #take({ id }: OutgoingMessage): SimMessage {
    const message = this.#given.get(id)!;
    this.#given.delete(id);
    return message;
  }
}
