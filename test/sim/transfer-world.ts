/** Two machines that move files over channels that break, in simulated time: what drives the cores, without bytes. */
import { refKey, sha256 } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { PacketfsError } from "../../packets/errors.ts";
import {
  BULK_BODY_BYTES_MAX,
  MESSAGE_COST_BYTES,
  TRANSFER_COMPLAINTS_REFS_MAX,
  TRANSFER_CREDIT_BYTES_MAX,
  TRANSFER_CREDIT_BYTES_MIN,
  TRANSFER_QUEUE_BYTES_MAX,
  TRANSFER_READY_BYTES_MAX,
} from "../../nodes/limits.ts";
import { ByteRanges } from "../../nodes/transfer/replication/byte-ranges.ts";
import { DataForm, TransferKind, decodeTransfer } from "../../nodes/transfer/replication/messages.ts";
import type { FileRequest } from "../../nodes/transfer/replication/messages.ts";
import { OutGate } from "../../nodes/transfer/replication/out-gate.ts";
import type { FileReceiver } from "../../nodes/transfer/replication/receiver.ts";
import type { DataUnit } from "../../nodes/transfer/replication/sender.ts";
import { Transfers } from "../../nodes/transfer/replication/transfers.ts";
import type { TransferAction } from "../../nodes/transfer/replication/transfers.ts";
import { SimulatedClock } from "./clock.ts";
import { Random } from "./random.ts";

export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(message);
}

interface SimChunk {
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
  readonly chunks: { readonly ref: Ref; isGood: boolean }[];
  isReadable: boolean;
}

/** What goes wrong. */
export interface Trouble {
  /** Of messages: lost without the channel's end; and milliseconds that each one takes. */
  readonly drops: number;
  readonly delayMs: number;
  /** Milliseconds between ends of channels, and between crashes of each machine; infinite for never. */
  readonly breaksMs: number;
  readonly crashesMs: number;
  /** Of chunks: damaged at the sender, of which so many can be mended, and damaged in a receiver's base. */
  readonly damaged: number;
  readonly mended: number;
  readonly badBases: number;
  /** Of messages that the hub sends, and that the client sends: changed in one way or another. */
  readonly hubLies: number;
  readonly clientLies: number;
}

export const QUIET: Trouble = {
  drops: 0,
  delayMs: 5,
  breaksMs: Number.POSITIVE_INFINITY,
  crashesMs: Number.POSITIVE_INFINITY,
  damaged: 0,
  mended: 1,
  badBases: 0,
  hubLies: 0,
  clientLies: 0,
};

/** What a client would have done. */
export interface Task {
  readonly kind: "get" | "put";
  readonly file: SimFile;
  readonly name: string | undefined;
  readonly bases: readonly SimFile[];
  readonly isUrgent: boolean;
  /** Bytes of it that were lacking at the beginning. */
  readonly lackingBytes: number;
  receiver: FileReceiver<SimBody> | undefined;
  failures: number;
  outcome: "open" | "right" | PacketfsError;
  /** Bytes of its bodies that a sender gave to a channel, and how often it began again. */
  sentBytes: number;
  begun: number;
}

const SILENCE_MS = 20_000;
const FAILURES_MAX = 12;
const CALM_FROM_MS = 600_000;
const BREAK = new PacketfsError("PFS_BULK_CUT", "the channel ended");
/** Of a patch with one range; opaque to the cores. */
const PACKETS = new Uint8Array(64);

/** What a machine has when it is started again. */
class Machine {
  readonly chunks: Set<string> = new Set<string>();
  readonly damaged: Set<string> = new Set<string>();
  readonly journals: Map<string, Uint8Array> = new Map<string, Uint8Array>();
  readonly files: Map<string, SimFile> = new Map<string, SimFile>();
  life = 0;

  store(file: SimFile): void {
    this.files.set(refKey(file.root), file);
    for (const { key } of file.chunks) this.chunks.add(key);
  }
}

interface Walk {
  readonly file: SimFile;
  readonly chunks: readonly SimChunk[];
  next: number;
}

type SentMessage = TransferAction<SimBody> & { readonly kind: "send" };

/** What one end of a channel keeps beside its core. */
class End {
  readonly machine: Machine;
  readonly transfers: Transfers<SimBody>;
  readonly walks = new Map<number, Walk>();
  readonly receivers = new Map<
    number,
    {
      readonly receiver: FileReceiver<SimBody>;
      readonly bases: readonly SimFile[];
      file: SimFile | undefined;
    }
  >();
  /** The client's. */
  readonly tasks = new Map<number, Task>();
  readonly gate: OutGate<SentMessage>;
  peer!: End;
  /** When the last message that is under way arrives: the next one does not overtake it. */
  arrival = 0;
  heardAt = 0;

  constructor(machine: Machine, isDialer: boolean, pass: (end: End, message: SentMessage) => void) {
    this.machine = machine;
    this.gate = new OutGate({
      pass: (message) => pass(this, message),
      drop: ({ cost }) => this.transfers.sender.left(cost),
    });
    this.transfers = new Transfers({ isDialer, bodyBytes: ({ bytes }: SimBody) => bytes });
  }
}

export class TransferWorld {
  readonly random: Random;
  readonly clock: SimulatedClock = new SimulatedClock();
  readonly client: Machine = new Machine();
  readonly hub: Machine = new Machine();
  readonly names: Map<string, SimFile> = new Map();
  readonly tasks: Task[] = [];
  readonly #trouble: Trouble;
  #ends: [End, End] | undefined;
  /** Bytes of bodies that wait to be placed. */
  readonly #held: WeakMap<FileReceiver<SimBody>, number> = new WeakMap();
  #files = 0;
  #breaks = 0;

  constructor(seed: number, trouble: Trouble) {
    this.random = new Random(seed);
    this.#trouble = trouble;
    this.#connect();
    this.#often(trouble.breaksMs, () => this.#break());
    for (const machine of [this.client, this.hub]) this.#often(trouble.crashesMs, () => this.#crash(machine));
  }

  /** A file of some chunks, that shares most of them with another. */
  file(chunks: number, like?: SimFile): SimFile {
    const name = `${this.#files++}`;
    const made: SimChunk[] = [];
    let at = 0;
    for (let index = 0; index < chunks; index++) {
      const old = this.random.chance(0.8) ? like?.chunks[index] : undefined;
      const length = old === undefined ? this.random.integer(1_000, 600_000) : old.end - old.from;
      const ref = old?.ref ?? sha256(Buffer.from(`${name} ${index}`));
      made.push({ ref, key: refKey(ref), from: at, end: at + length });
      at += length;
    }
    return { root: sha256(Buffer.from(`file ${name}`)), length: at, chunks: made };
  }

  task(
    kind: Task["kind"],
    file: SimFile,
    options: Partial<Pick<Task, "name" | "bases" | "isUrgent">> = {},
  ): Task {
    const { name, bases = [], isUrgent = false } = options;
    const receiver = kind === "get" ? this.client : this.hub;
    const sender = kind === "get" ? this.hub : this.client;
    sender.store(file);
    for (const base of bases) {
      sender.store(base);
      receiver.store(base);
    }
    for (const { key } of file.chunks) if (this.random.chance(this.#trouble.damaged)) sender.damaged.add(key);
    for (const { key } of bases.flatMap(({ chunks }) => chunks))
      if (this.random.chance(this.#trouble.badBases)) receiver.chunks.delete(key);
    const known = new Set(bases.flatMap(({ chunks }) => chunks.map(({ key }) => key)));
    const lacking = file.chunks.filter(({ key }) => !known.has(key));
    const task: Task = {
      kind,
      file,
      name,
      bases,
      isUrgent,
      lackingBytes: lacking.reduce((sum, { from, end }) => sum + end - from, 0),
      receiver: undefined,
      failures: 0,
      outcome: "open",
      sentBytes: 0,
      begun: 0,
    };
    this.tasks.push(task);
    if (name !== undefined) this.names.set(name, file);
    if (this.#ends !== undefined) this.#begin(this.#ends[0], task);
    this.#settle();
    return task;
  }

  /** Whether all tasks are over before so much time is. */
  run(untilMs: number): boolean {
    while (this.tasks.some(({ outcome }) => outcome === "open")) {
      if (this.clock.now > untilMs || !this.clock.step()) return false;
    }
    return true;
  }

  /** What a receiver says that it has is there, in its right bytes. */
  checkRight(): void {
    for (const { kind, file, outcome } of this.tasks) {
      const machine = kind === "get" ? this.client : this.hub;
      const journal = machine.journals.get(refKey(file.root));
      const had = journal === undefined ? new ByteRanges() : ByteRanges.decode(journal);
      for (const { from, end, key } of file.chunks) {
        const isClaimed = outcome === "right" || had.covers(from, end);
        assert(!isClaimed || machine.chunks.has(key), "what was not verified counts");
      }
    }
  }

  #often(meanMs: number, happen: () => void): void {
    // Where channels end before anything can arrive, nothing would ever be over.
    if (!Number.isFinite(meanMs) || this.clock.now > CALM_FROM_MS) return;
    this.clock.after(this.random.exponential(meanMs), () => {
      happen();
      this.#often(meanMs, happen);
    });
  }

  #connect(): void {
    const travel = (end: End, message: SentMessage): void => this.#travel(end, message);
    const client = new End(this.client, true, travel);
    const hub = new End(this.hub, false, travel);
    [client.peer, hub.peer] = [hub, client];
    this.#ends = [client, hub];
    for (const end of this.#ends) [end.arrival, end.heardAt] = [this.clock.now, this.clock.now];
    for (const task of this.tasks) if (task.outcome === "open") this.#begin(client, task);
    this.#settle();
    this.#listen(client);
  }

  /** Who hears nothing for long begins again, and then anew. */
  #listen(end: End, times = 0): void {
    this.clock.after(SILENCE_MS, () => {
      if (!this.#isUp(end)) return;
      if (this.clock.now - end.heardAt < SILENCE_MS) return this.#listen(end);
      if (times === 2) return this.#break();
      for (const { receiver } of end.receivers.values()) receiver.restart();
      this.#settle();
      this.#listen(end, times + 1);
    });
  }

  #isUp(end: End): boolean {
    return this.#ends?.includes(end) ?? false;
  }

  #break(): void {
    const ends = this.#ends;
    if (ends === undefined) return;
    this.#breaks++;
    this.#ends = undefined;
    for (const end of ends) {
      end.transfers.lost(BREAK);
      end.transfers.takeActions();
    }
    this.clock.after(this.random.exponential(500), () => this.#connect());
  }

  #crash(machine: Machine): void {
    machine.life++;
    if (machine === this.client) for (const task of this.tasks) task.receiver = undefined;
    this.#break();
  }

  #begin(end: End, task: Task): void {
    task.begun++;
    if (task.kind === "put") {
      end.tasks.set(
        end.transfers.offer(task.file.root, task.file.length, { name: task.name, bases: [] }),
        task,
      );
      return;
    }
    if (task.receiver !== undefined && !task.receiver.isOver) end.transfers.resume(task.receiver);
    else {
      const { file, name, bases, isUrgent } = task;
      const journal = this.client.journals.get(refKey(file.root));
      task.receiver = end.transfers.get({
        ...(name === undefined ? { root: file.root } : { name }),
        bases: bases.map(({ root }) => root),
        ...(journal === undefined ? {} : { resume: { root: file.root, ranges: ByteRanges.decode(journal) } }),
        isUrgent,
      });
    }
    const { receiver, file, bases } = task;
    end.tasks.set(receiver.transfer, task);
    end.receivers.set(receiver.transfer, { receiver, bases, file });
  }

  /** Does what the cores of both ends want done, until they want nothing. */
  #settle(): void {
    for (const end of this.#ends ?? []) {
      for (
        let actions = end.transfers.takeActions();
        actions.length > 0;
        actions = end.transfers.takeActions()
      )
        for (const action of actions) this.#do(end, action);
      if (!this.#isUp(end)) return;
      this.#checkMemory(end);
    }
  }

  #checkMemory({ transfers: { sender }, receivers }: End): void {
    assert(sender.readyBytes <= TRANSFER_READY_BYTES_MAX, "a sender has read more than it may");
    // What was made ahead of credit is queued when the credit comes.
    const queuedMax = 2 * (TRANSFER_QUEUE_BYTES_MAX + BULK_BODY_BYTES_MAX);
    assert(sender.queuedBytes <= queuedMax, "too much is queued");
    for (const { receiver } of receivers.values())
      assert(receiver.heldBytes <= TRANSFER_CREDIT_BYTES_MAX, "a receiver holds more than it granted");
  }

  #later(end: End, meanMs: number, happen: () => void): void {
    const { machine } = end;
    const { life } = machine;
    this.clock.after(this.random.exponential(meanMs), () => {
      if (machine.life !== life) return;
      happen();
      this.#settle();
    });
  }

  #do(end: End, action: TransferAction<SimBody>): void {
    const { sender } = end.transfers;
    switch (action.kind) {
      case "send":
        return this.#send(end, action);
      case "open":
        return this.#later(end, 10, () => this.#open(end, action.request));
      case "produce":
        return this.#later(end, 2, () => {
          // It may be over meanwhile.
          const walk = end.walks.get(action.transfer);
          if (walk !== undefined) sender.produced(action.transfer, action.run, this.#next(end, walk));
        });
      case "reread":
        return this.#later(end, 20, () => {
          sender.reread(action.transfer, action.run, this.#reread(end, action.refs));
        });
      case "sent":
        return this.#sent(end, action);
      case "offered":
        return this.#later(end, 5, () => this.#offered(end, action.offer));
      case "place":
        return this.#place(end, action);
      case "check":
        return this.#check(end, action);
      case "received":
        return this.#received(end, action);
      case "begin":
      case "drop":
        return;
    }
  }

  #send(end: End, message: SentMessage): void {
    if (message.gate === undefined) this.#travel(end, message);
    else end.gate.send(message.gate, message);
  }

  #travel(end: End, { type, head, body, cost }: SentMessage): void {
    const { random, clock } = this;
    const lies = end.machine === this.hub ? this.#trouble.hubLies : this.#trouble.clientLies;
    let [sentHead, sentBody, times] = [head, body, 1];
    if (random.chance(lies)) {
      const lie = random.integer(0, 6);
      if (lie === 0) sentHead = head.map((byte) => (random.chance(0.05) ? random.integer(0, 255) : byte));
      if (lie === 1) times = 2;
      if (lie === 2) times = 0;
      if (lie === 3 && body !== undefined)
        sentBody = {
          ...body,
          chunks: body.chunks.map((chunk) => ({ ...chunk, isGood: random.chance(0.3) })),
        };
      if (lie === 4 && body !== undefined) sentBody = { ...body, chunks: body.chunks.slice(1) };
      if (lie === 5 && body !== undefined) sentBody = { ...body, isReadable: false };
      if (lie === 6) sentHead = new Uint8Array(random.integer(0, 40)).map(() => random.integer(0, 255));
    }
    if (random.chance(this.#trouble.drops)) times = 0;
    const { peer } = end;
    const travel = random.exponential(this.#trouble.delayMs) + cost / 20_000;
    for (; times > 0; times--) {
      // Later by more than sums of such numbers are rounded.
      peer.arrival = Math.max(peer.arrival + 0.001, clock.now + travel);
      clock.after(peer.arrival - clock.now, () => this.#arrives(peer, type, sentHead, sentBody));
    }
    if (cost === 0) return;
    clock.after(travel / 2, () => {
      if (!this.#isUp(end)) return;
      end.transfers.sender.left(cost);
      this.#settle();
    });
  }

  #arrives(end: End, type: number, head: Uint8Array, body: SimBody | undefined): void {
    if (!this.#isUp(end)) return;
    end.heardAt = this.clock.now;
    try {
      const message = type === TransferKind.FILE_CREDIT ? decodeTransfer(type, head, 0) : undefined;
      if (message?.kind === TransferKind.FILE_CREDIT)
        end.gate.granted(message.transfer, message.run, message.granted);
      end.transfers.received(type, head, body);
    } catch (error) {
      if (!(error instanceof PacketfsError)) throw error;
      // Who says what nobody may has no channel any more.
      const isHonest = this.#trouble.hubLies + this.#trouble.clientLies === 0;
      assert(!isHonest || this.#trouble.drops > 0, `an honest peer is refused: ${error.message}`);
      for (const task of this.tasks)
        if (task.outcome === "open" && ++task.failures === FAILURES_MAX) task.outcome = error;
      return this.#break();
    }
    this.#settle();
  }

  #open(end: End, request: FileRequest): void {
    const { transfer, run, root, name, bases, resume, resumeRoot } = request;
    const { machine } = end;
    const file = root === undefined ? this.names.get(name!) : machine.files.get(refKey(root));
    if (file === undefined) {
      end.transfers.sender.failed(transfer, new PacketfsError("PFS_NOT_FOUND", "no such file"));
      return;
    }
    const known = new Set(
      bases.flatMap((base) => machine.files.get(refKey(base))?.chunks.map(({ key }) => key) ?? []),
    );
    const isResumed = resumeRoot !== undefined && refKey(resumeRoot) === refKey(file.root);
    const chunks = file.chunks.filter(
      ({ key, from, end: to }) => !known.has(key) && !(isResumed && resume.covers(from, to)),
    );
    end.walks.set(transfer, { file, chunks, next: 0 });
    const { length } = file;
    end.transfers.sender.opened(transfer, run, { root: file.root, length, isResumed });
  }

  #next(end: End, walk: Walk): DataUnit<SimBody> | undefined {
    const chunks: SimChunk[] = [];
    let bytes = 0;
    for (; walk.next < walk.chunks.length; walk.next++) {
      const chunk = walk.chunks[walk.next]!;
      const more = chunk.end - chunk.from;
      if (bytes + more > BULK_BODY_BYTES_MAX) break;
      bytes += more;
      chunks.push(chunk);
    }
    return chunks.length === 0 ? undefined : this.#unit(end, walk.file, chunks, DataForm.chunks);
  }

  #unit(end: End, file: SimFile, chunks: readonly SimChunk[], form: DataForm): DataUnit<SimBody> {
    const bytes = chunks.reduce((sum, { from, end: to }) => sum + to - from, 0);
    const task = this.tasks.find((each) => each.file === file);
    if (task !== undefined) task.sentBytes += bytes;
    return {
      form,
      packets: form === DataForm.stored ? new Uint8Array(41) : PACKETS,
      body: {
        bytes,
        chunks: chunks.map(({ ref, key }) => ({ ref, isGood: !end.machine.damaged.has(key) })),
        isReadable: true,
      },
      bodyBytes: bytes,
      chunks: chunks.length,
      plainBytes: bytes,
      patchedChunks: 0,
      compressedChunks: 0,
    };
  }

  /** The first one alone: the cores ask for the others again. */
  #reread(
    end: End,
    refs: readonly Ref[],
  ): { readonly done: number; readonly unit: DataUnit<SimBody> | undefined; readonly lost: readonly Ref[] } {
    const key = refKey(refs[0]!);
    const { machine } = end;
    if (machine.damaged.has(key) && this.random.chance(this.#trouble.mended)) machine.damaged.delete(key);
    const file = [...machine.files.values()].find(({ chunks }) => chunks.some((chunk) => chunk.key === key));
    if (file === undefined || machine.damaged.has(key)) return { done: 1, unit: undefined, lost: [refs[0]!] };
    const chunk = file.chunks.find((each) => each.key === key)!;
    return { done: 1, unit: this.#unit(end, file, [chunk], DataForm.stored), lost: [] };
  }

  #place(end: End, action: TransferAction<SimBody> & { readonly kind: "place" }): void {
    const { run, number, body } = action;
    const { receiver, file, bases } = end.receivers.get(action.transfer)!;
    const { machine } = end;
    const held = (this.#held.get(receiver) ?? 0) + body.bytes;
    // Whatever run they came by; these files are too short for a larger window.
    assert(held <= TRANSFER_CREDIT_BYTES_MIN, "more waits to be placed than was granted");
    this.#held.set(receiver, held);
    const free = (): void => void this.#held.set(receiver, this.#held.get(receiver)! - body.bytes);
    this.#later(end, 8, () => {
      if (!body.isReadable) {
        free();
        receiver.unreadable(run, number, new PacketfsError("PFS_PATCH_INVALID", "this is no patch"));
        return;
      }
      const known = new Set(bases.flatMap(({ chunks }) => chunks.map(({ key }) => key)));
      const lacking = (chunk: SimChunk): boolean => !receiver.had.covers(chunk.from, chunk.end);
      const wrong: Ref[] = [];
      const placed: SimChunk[] = [];
      for (const { ref, isGood } of body.chunks) {
        const chunk = file!.chunks.find(({ key }) => key === refKey(ref));
        if (chunk === undefined || !lacking(chunk)) continue;
        if (isGood) placed.push(chunk);
        else wrong.push(ref);
      }
      for (const { key } of placed) machine.chunks.add(key);
      // Written, and not noted in the journal yet: a moment to be killed in.
      this.#later(end, 1, () => {
        const covered = [...placed];
        for (const chunk of placed) {
          for (let index = file!.chunks.indexOf(chunk) + 1; index < file!.chunks.length; index++) {
            const next = file!.chunks[index]!;
            if (!known.has(next.key) || !machine.chunks.has(next.key)) break;
            covered.push(next);
          }
        }
        const journal = new ByteRanges(receiver.had);
        for (const { from, end: to } of covered) journal.add(from, to);
        machine.journals.set(refKey(file!.root), journal.encode());
        free();
        receiver.placed(run, number, {
          chunks: placed.length,
          plainBytes: placed.reduce((sum, { from, end: to }) => sum + to - from, 0),
          patchedChunks: 0,
          compressedChunks: 0,
          wrong,
          covered: covered.map(({ from, end: to }) => ({ from, end: to })),
        });
      });
    });
  }

  #check(end: End, { transfer, run }: TransferAction<SimBody> & { readonly kind: "check" }): void {
    const { receiver, file } = end.receivers.get(transfer)!;
    this.#later(end, 5, () => {
      const missing = file!.chunks.filter(({ key }) => !end.machine.chunks.has(key)).map(({ ref }) => ref);
      receiver.checked(run, missing.slice(0, TRANSFER_COMPLAINTS_REFS_MAX));
    });
  }

  #offered(end: End, offer: (TransferAction<SimBody> & { readonly kind: "offered" })["offer"]): void {
    if (!this.#isUp(end)) return;
    const { machine } = end;
    const file = machine.files.get(refKey(offer.root));
    if (file?.chunks.every(({ key }) => machine.chunks.has(key)) === true) return end.transfers.known(offer);
    const task = this.tasks.find((each) => refKey(each.file.root) === refKey(offer.root));
    if (task?.kind !== "put" || task.file.length !== offer.length) {
      end.transfers.refuse(offer, new PacketfsError("PFS_NOT_ALLOWED", "nobody may put that"));
      return;
    }
    const journal = machine.journals.get(refKey(offer.root));
    const receiver = end.transfers.accept(offer, {
      bases: task.bases.map(({ root }) => root),
      ...(journal === undefined ? {} : { resume: { root: offer.root, ranges: ByteRanges.decode(journal) } }),
    });
    end.receivers.set(offer.transfer, { receiver, bases: task.bases, file: task.file });
  }

  #received(end: End, { transfer, error }: TransferAction<SimBody> & { readonly kind: "received" }): void {
    const { file } = end.receivers.get(transfer)!;
    end.receivers.delete(transfer);
    if (error === undefined) end.machine.store(file!);
    const task = end.tasks.get(transfer);
    if (task !== undefined) this.#over(end, task, error);
  }

  #sent(end: End, { transfer, error }: TransferAction<SimBody> & { readonly kind: "sent" }): void {
    end.walks.delete(transfer);
    end.gate.over(transfer);
    const task = end.tasks.get(transfer);
    if (task?.kind === "put") this.#over(end, task, error);
  }

  #over(end: End, task: Task, error: PacketfsError | undefined): void {
    assert(task.outcome === "open", "a task ends twice");
    if (error === undefined) {
      task.outcome = "right";
      return;
    }
    assert(error.code.startsWith("PFS_"), `an error without a code: ${error.message}`);
    const isHonest = this.#trouble.hubLies + this.#trouble.clientLies + this.#trouble.drops === 0;
    const isReason = this.#trouble.mended < 1 && error.code === "PFS_CHUNK_MISSING";
    assert(!isHonest || isReason, `without a reason: ${error.code} ${error.message}`);
    task.receiver = undefined;
    if (isReason || ++task.failures === FAILURES_MAX) task.outcome = error;
    else if (this.#isUp(end)) this.#later(end, 100, () => this.#isUp(end) && this.#begin(end, task));
  }

  get breaks(): number {
    return this.#breaks;
  }
}

export const MESSAGE_BYTES_MAX: number = BULK_BODY_BYTES_MAX + MESSAGE_COST_BYTES;
