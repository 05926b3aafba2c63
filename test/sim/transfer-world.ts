/** Two machines that move files over channels that break, in simulated time: what drives the cores, without bytes. */
import { Codec } from "../../packets/codec.ts";
import { refAt, refKey, sha256 } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { PacketfsError } from "../../packets/errors.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import {
  BULK_BODY_BYTES_MAX,
  TRANSFER_COMPLAINTS_REFS_MAX,
  TRANSFER_QUEUE_BYTES_MAX,
  TRANSFER_READY_BYTES_MAX,
} from "../../nodes/limits.ts";
import { ByteRanges } from "../../nodes/transfer/replication/byte-ranges.ts";
import {
  DataForm,
  TransferKind,
  decodeTransfer,
  encodeRows,
  windowOf,
} from "../../nodes/transfer/replication/messages.ts";
import type { FileRequest } from "../../nodes/transfer/replication/messages.ts";
import type { FileReceiver, PlacedData } from "../../nodes/transfer/replication/receiver.ts";
import type { DataUnit } from "../../nodes/transfer/replication/sender.ts";
import type { TransferAction } from "../../nodes/transfer/replication/transfers.ts";
import type { PlacedMessages, PlacedRows } from "../../nodes/transfer/transfer-offload.ts";
import type { Placed, Placement } from "../../nodes/wire/bulk/dialing.ts";
import { assert } from "./assert.ts";
import { SimulatedClock } from "./clock.ts";
import { Random } from "./random.ts";
import { End, Machine } from "./transfer-end.ts";
import type { Receiving, SimBody, SimChunk, SimFile, SimMessage, Task, Walk } from "./transfer-end.ts";
import { lieOf } from "./transfer-lies.ts";
import type { Trouble } from "./transfer-trouble.ts";

const SILENCE_MS = 20_000;
const FAILURES_MAX = 12;
const CALM_FROM_MS = 600_000;
const BREAK = new PacketfsError("PFS_BULK_CUT", "the channel ended");
const CANCELLED = new PacketfsError("PFS_CANCELLED", "nobody wants it any more");
const CANCELLED_MS = 2_000;
/** Of channels that end: those that tell before what their thread has done. */
const LAST_WORDS = 0.7;
/** Of a patch with one range; opaque to the cores. */
const PACKETS = new Uint8Array(64);

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
  readonly #tasksOf: WeakMap<SimBody, Task> = new WeakMap();
  /** What to call when a body is placed, or is not needed. */
  readonly #settled: WeakMap<SimBody, () => void> = new WeakMap();
  /** What should not be, and was seen where others catch it. */
  #failure: Error | undefined;
  #files = 0;
  #breaks = 0;
  #isBreaking = false;
  #unheardBytes = 0;

  constructor(seed: number, trouble: Trouble) {
    this.random = new Random(seed);
    this.#trouble = trouble;
    this.#connect();
    this.#often(trouble.breaksMs, () => this.#break());
    for (const machine of [this.client, this.hub]) this.#often(trouble.crashesMs, () => this.#crash(machine));
  }

  /** A file of some chunks, that shares most of them with another, and of so many bytes that its streams say. */
  file(chunks: number, like?: SimFile, literalBytes = 0): SimFile {
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
    return { root: sha256(Buffer.from(`file ${name}`)), length: at + literalBytes, chunks: made };
  }

  task(
    kind: Task["kind"],
    file: SimFile,
    options: Partial<Pick<Task, "name" | "bases" | "isUrgent">> = {},
  ): Task {
    const { name, bases = [], isUrgent = false } = options;
    const receiver = kind === "get" ? this.client : this.hub;
    const sender = kind === "get" ? this.hub : this.client;
    store(sender, file);
    for (const base of bases) {
      store(sender, base);
      store(receiver, base);
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
      failures: 0,
      isCancelled: false,
      outcome: "open",
      sentBytes: 0,
      begun: 0,
    };
    this.tasks.push(task);
    if (name !== undefined) this.names.set(name, file);
    if (this.#ends !== undefined) this.#begin(this.#ends[0], task);
    this.#settle();
    if (this.random.chance(this.#trouble.cancelled))
      this.clock.after(this.random.between(0, CANCELLED_MS), () => this.#cancel(task));
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
        // That a put is done, a client has from the hub.
        const isSaid = outcome === "right" && (kind === "get" || this.#trouble.hubLies === 0);
        const isClaimed = isSaid || had.covers(from, end);
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
    const client = this.#end(this.client, true);
    const hub = this.#end(this.hub, false);
    [client.peer, hub.peer] = [hub, client];
    this.#ends = [client, hub];
    for (const end of this.#ends) [end.arrival, end.heardAt] = [this.clock.now, this.clock.now];
    for (const task of this.tasks) if (task.outcome === "open") this.#begin(client, task);
    this.#settle();
    this.#listen(client);
  }

  #end(machine: Machine, isDialer: boolean): End {
    const { clock, random } = this;
    const { lagMs, toldMs } = this.#trouble;
    const end: End = new End(machine, isDialer, {
      lane: {
        clock,
        delayMs: () => (lagMs === 0 ? 0 : random.exponential(lagMs)),
        heard: () => this.#settle(),
      },
      after: (_, happen) => {
        let isWanted = true;
        clock.after(random.exponential(toldMs), () => {
          if (!isWanted) return;
          happen();
          this.#settle();
        });
        return () => (isWanted = false);
      },
      travel: (message) => this.#travel(end, message),
      place: (body, placement) => {
        // Then others try it.
        if (random.chance(this.#trouble.unwritten)) throw new Error("it cannot be written");
        try {
          return this.#placeAside(end, body, placement);
        } catch (error) {
          this.#failure ??= error as Error;
          throw error;
        }
      },
      said: (said) => {
        if (said.kind === "placed") this.#placedAside(end, said);
        else assert(end.files.delete(said.transfer), "a file is closed twice");
      },
    });
    return end;
  }

  /** Who hears nothing for long begins again, and then anew. */
  #listen(end: End, times = 0): void {
    this.clock.after(SILENCE_MS, () => {
      if (!this.#isUp(end)) return;
      if (this.clock.now - end.heardAt < SILENCE_MS) return this.#listen(end);
      assert(!this.#isCalm || !this.#standsStill(end), "a transfer stands still");
      if (times === 2) return this.#break();
      for (const { receiver } of end.receivers.values()) receiver.restart();
      this.#settle();
      this.#listen(end, times + 1);
    });
  }

  /** Whether somebody waits for what does not come. */
  #standsStill(end: End): boolean {
    return [end, end.peer].some(({ heardAt, receivers }) => {
      const isWaiting = [...receivers.values()].some(({ receiver }) => receiver.isWaiting);
      return isWaiting && this.clock.now - heardAt >= SILENCE_MS;
    });
  }

  /** Whether everything that is sent comes as it is, and soon. */
  get #isCalm(): boolean {
    const { drops, delayMs, lagMs } = this.#trouble;
    return this.#isHonest && drops === 0 && Math.max(delayMs, lagMs) < SILENCE_MS / 100;
  }

  #isUp(end: End): boolean {
    return this.#ends?.includes(end) ?? false;
  }

  #break(crashed?: Machine): void {
    const ends = this.#ends;
    if (ends === undefined || this.#isBreaking) return;
    this.#breaks++;
    this.#isBreaking = true;
    for (const end of ends) {
      end.over(end.machine !== crashed && this.random.chance(LAST_WORDS));
      this.#settle();
    }
    this.#isBreaking = false;
    this.#ends = undefined;
    for (const end of ends) {
      this.#unheardBytes += end.untoldBytes;
      end.transfers.lost(BREAK);
      end.transfers.takeActions();
    }
    this.clock.after(this.random.exponential(500), () => this.#connect());
  }

  #crash(machine: Machine): void {
    machine.life++;
    this.#break(machine);
  }

  /** As where something is found to be wrong. Something has come since it was begun. */
  #restart(receiving: Receiving): void {
    if (!receiving.isFruitful) return;
    receiving.isFruitful = false;
    receiving.receiver.restart();
  }

  #cancel(task: Task): void {
    if (task.outcome !== "open") return;
    task.isCancelled = true;
    const client = this.#ends?.[0];
    const [transfer] = [...(client?.tasks ?? [])].find(([, each]) => each === task) ?? [];
    if (client === undefined || transfer === undefined) task.outcome = CANCELLED;
    else if (task.kind === "put") client.transfers.sender.failed(transfer, CANCELLED);
    else client.receivers.get(transfer)!.receiver.cancel(CANCELLED);
    this.#settle();
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
    const { file, name, bases, isUrgent } = task;
    const journal = this.client.journals.get(refKey(file.root));
    const receiver = end.transfers.get({
      ...(name === undefined ? { root: file.root } : { name }),
      bases: bases.map(({ root }) => root),
      ...(journal === undefined ? {} : { resume: { root: file.root, ranges: ByteRanges.decode(journal) } }),
      isUrgent,
    });
    end.tasks.set(receiver.transfer, task);
    this.#receive(end, receiver, { bases, file });
  }

  #receive(
    end: End,
    receiver: FileReceiver<SimBody>,
    { bases, file }: Pick<Receiving, "bases" | "file">,
  ): void {
    const { random } = this;
    const { transfer } = receiver;
    const isAside = random.chance(this.#trouble.aside);
    const aside = !isAside ? 0 : random.chance(0.5) ? 1 : random.between(0.6, 1);
    const receiving = { receiver, bases, file, aside, isFruitful: false };
    end.receivers.set(transfer, receiving);
    end.credit.receives(transfer, () => windowFor(receiving));
    this.#expect(
      end,
      receiving,
      file.chunks.filter((chunk) => !receiver.had.covers(chunk.from, chunk.end)),
    );
  }

  /** Some of these the thread may place. */
  #expect(end: End, { receiver, file, aside }: Receiving, chunks: readonly SimChunk[]): void {
    const some = chunks.filter(() => this.random.chance(aside));
    if (some.length === 0 || receiver.isOver) return;
    const { transfer } = receiver;
    end.files.set(transfer, file);
    const rows = {
      file: transfer,
      refs: Buffer.concat(some.map(({ ref }) => ref)),
      from: Float64Array.from(some, ({ from }) => from),
      bytes: Uint32Array.from(some, ({ from, end: to }) => to - from),
    };
    end.tell({ kind: "expect", transfer, rows });
  }

  /** Does what the cores of both ends want done, until they want nothing. */
  #settle(): void {
    if (this.#failure !== undefined) throw this.#failure;
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
    for (const receiving of receivers.values())
      assert(receiving.receiver.heldBytes <= windowFor(receiving), "a receiver holds more than it granted");
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
        return end.send(action);
      case "open":
        return this.#later(end, 10, () => this.#walk(end, action.request));
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
      case "drop":
        return this.#settled.get(action.body)?.();
      case "begin":
        return;
    }
  }

  #travel(end: End, message: SimMessage): void {
    const { random, clock } = this;
    const { hubLies, clientLies, drops, delayMs } = this.#trouble;
    const { type, head, body, cost } = message;
    if (type === TransferKind.FILE_REQUEST || type === TransferKind.FILE_CREDIT)
      end.credit.says(decodeTransfer(type, head, 0));
    const task = body && this.#tasksOf.get(body);
    if (task !== undefined) task.sentBytes += body!.bytes;
    const lies = end.machine === this.hub ? hubLies : clientLies;
    let sent = random.chance(lies) ? lieOf(random, message) : [message];
    if (random.chance(drops)) sent = [];
    const { peer } = end;
    const travel = random.exponential(delayMs) + cost / 20_000;
    for (const each of sent) {
      // Later by more than sums of such numbers are rounded.
      peer.arrival = Math.max(peer.arrival + 0.001, clock.now + travel);
      clock.after(peer.arrival - clock.now, () => this.#arrives(peer, each));
    }
    if (cost === 0) return;
    clock.after(travel / 2, () => {
      if (!this.#isUp(end)) return;
      end.left(cost);
      this.#settle();
    });
  }

  #arrives(end: End, message: SimMessage): void {
    if (!this.#isUp(end)) return;
    end.heardAt = this.clock.now;
    const { type, head } = message;
    // Memory of its own.
    const body = message.body === undefined ? undefined : { ...message.body };
    if (type === TransferKind.FILE_DATA) this.#comes(end, head, body!);
    end.arrives({ ...message, body }, () => this.#hears(end, type, head, body));
    this.#settle();
  }

  #comes(end: End, head: Uint8Array, body: SimBody): void {
    try {
      const message = decodeTransfer(TransferKind.FILE_DATA, head, body.bytes);
      if (message.kind === TransferKind.FILE_DATA)
        this.#settled.set(body, end.credit.came(message, body.bytes, this.#isHonest));
    } catch (error) {
      // Its core says what is wrong with it.
      if (!(error instanceof PacketfsError)) throw error;
    }
  }

  #hears(end: End, type: number, head: Uint8Array, body: SimBody | undefined): void {
    try {
      end.transfers.received(type, head, body);
    } catch (error) {
      if (!(error instanceof PacketfsError)) throw error;
      // Who says what nobody may has no channel any more.
      assert(!this.#isHonest || this.#trouble.drops > 0, `an honest peer is refused: ${error.message}`);
      end.over(false);
      this.#break();
      for (const task of this.tasks)
        if (task.outcome === "open" && ++task.failures === FAILURES_MAX) task.outcome = error;
    }
  }

  get #isHonest(): boolean {
    return this.#trouble.hubLies + this.#trouble.clientLies === 0;
  }

  #walk(end: End, request: FileRequest): void {
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
    const { random } = this;
    const form = random.chance(0.8) ? DataForm.stored : DataForm.chunks;
    const bodyBytes = random.chance(0.3) ? random.integer(1, BULK_BODY_BYTES_MAX) : BULK_BODY_BYTES_MAX;
    end.walks.set(transfer, { file, chunks, form, bodyBytes, next: 0 });
    const { length } = file;
    end.transfers.sender.opened(transfer, run, { root: file.root, length, isResumed, bodyBytes });
  }

  #next(end: End, walk: Walk): DataUnit<SimBody> | undefined {
    const chunks: SimChunk[] = [];
    let bytes = 0;
    for (; walk.next < walk.chunks.length; walk.next++) {
      const chunk = walk.chunks[walk.next]!;
      const more = chunk.end - chunk.from;
      if (chunks.length > 0 && bytes + more > walk.bodyBytes) break;
      bytes += more;
      chunks.push(chunk);
    }
    return chunks.length === 0 ? undefined : this.#unit(end, walk.file, chunks, walk.form);
  }

  #unit(end: End, file: SimFile, chunks: readonly SimChunk[], form: DataForm): DataUnit<SimBody> {
    const bytes = chunks.reduce((sum, { from, end: to }) => sum + to - from, 0);
    const body = {
      bytes,
      chunks: chunks.map(({ ref, key }) => ({ ref, isGood: !end.machine.damaged.has(key) })),
      isReadable: true,
    };
    const task = this.tasks.find((each) => each.file === file);
    if (task !== undefined) this.#tasksOf.set(body, task);
    return {
      form,
      packets: form === DataForm.stored ? rowsOf(chunks) : PACKETS,
      body,
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
    const { run, number, data, body } = action;
    const receiving = end.receivers.get(action.transfer)!;
    const { receiver, file, bases } = receiving;
    const { machine } = end;
    const held = (this.#held.get(receiver) ?? 0) + body.bytes;
    // Whatever run they came by.
    assert(held <= windowFor(receiving), "more waits to be placed than was granted");
    this.#held.set(receiver, held);
    const free = (): void => {
      this.#held.set(receiver, this.#held.get(receiver)! - body.bytes);
      this.#settled.get(body)?.();
    };
    this.#later(end, this.#trouble.placeMs, () => {
      if (!body.isReadable) {
        free();
        const error = new PacketfsError("PFS_PATCH_INVALID", "this is no patch");
        if (data.form === DataForm.stored) receiver.fail(error);
        else receiver.unreadable(run, number, error);
        return;
      }
      const known = new Set(bases.flatMap(({ chunks }) => chunks.map(({ key }) => key)));
      const lacking = (chunk: SimChunk): boolean => !receiver.had.covers(chunk.from, chunk.end);
      const wrong: Ref[] = [];
      const placed: SimChunk[] = [];
      for (const { ref, isGood } of body.chunks) {
        const chunk = file.chunks.find(({ key }) => key === refKey(ref));
        if (chunk === undefined || !lacking(chunk)) continue;
        if (isGood) placed.push(chunk);
        else wrong.push(ref);
      }
      for (const { key } of placed) machine.chunks.add(key);
      // Written, and not noted in the journal yet: a moment to be killed in.
      this.#later(end, 1, () => {
        const covered = [...placed];
        for (const chunk of placed) {
          for (let index = file.chunks.indexOf(chunk) + 1; index < file.chunks.length; index++) {
            const next = file.chunks[index]!;
            if (!known.has(next.key) || !machine.chunks.has(next.key)) break;
            covered.push(next);
          }
        }
        const noted = this.#noted(end, receiving, placed, covered);
        free();
        receiver.placed(run, number, { ...noted, wrong });
      });
    });
  }

  /** The thread of a channel verifies a message's chunks, and writes them to their places. */
  #placeAside(end: End, body: SimBody, { refs, plainBytes, files, targets }: Placement): Placed {
    const { machine } = end;
    const file = end.files.get(files[0] as number);
    assert(file !== undefined, "written to a file that is closed");
    const good = Uint8Array.from(plainBytes, (bytes, row) => {
      const key = refKey(refAt(refs, row));
      const chunk = file.chunks.find((each) => each.key === key)!;
      assert(targets.offset[row] === chunk.from && bytes === chunk.end - chunk.from, "another place");
      const isGood = body.isReadable && body.chunks.some(({ ref, isGood: is }) => is && refKey(ref) === key);
      if (isGood) machine.chunks.add(key);
      return Number(isGood);
    });
    this.#settled.get(body)!();
    return { good };
  }

  /** The core hears of what was placed aside. */
  #placedAside(end: End, { transfer, run, messages, granted, sentBytes }: PlacedMessages): void {
    const receiving = end.receivers.get(transfer);
    if (receiving === undefined) return;
    const placed = messages.map((message) => ({ ...message, ...this.#outcomeOf(end, receiving, message) }));
    end.transfers.placedAside(transfer, run, { messages: placed, granted, sentBytes });
  }

  #outcomeOf(end: End, receiving: Receiving, { good, wrong }: PlacedRows): PlacedData {
    const chunks = refsOf(good).map((ref) => {
      const chunk = receiving.file.chunks.find(({ key }) => key === refKey(ref))!;
      assert(end.machine.chunks.has(chunk.key), "what was not written was placed");
      return chunk;
    });
    return { ...this.#noted(end, receiving, chunks, chunks), wrong: refsOf(wrong) };
  }

  /** Notes in the journal what is covered, by chunks that were placed. */
  #noted(
    end: End,
    receiving: Receiving,
    placed: readonly SimChunk[],
    covered: readonly SimChunk[],
  ): Omit<PlacedData, "wrong"> {
    const { journals } = end.machine;
    const root = refKey(receiving.file.root);
    const ranges = covered.map(({ from, end: to }) => ({ from, end: to }));
    const noted = journals.get(root);
    const journal = noted === undefined ? new ByteRanges() : ByteRanges.decode(noted);
    for (const { from, end: to } of ranges) journal.add(from, to);
    journals.set(root, journal.encode());
    if (placed.length > 0) {
      receiving.isFruitful = true;
      if (this.random.chance(this.#trouble.restarts)) this.#later(end, 20, () => this.#restart(receiving));
    }
    return {
      chunks: placed.length,
      plainBytes: placed.reduce((sum, { from, end: to }) => sum + to - from, 0),
      patchedChunks: 0,
      compressedChunks: 0,
      covered: ranges,
    };
  }

  #check(end: End, { transfer, run }: TransferAction<SimBody> & { readonly kind: "check" }): void {
    const receiving = end.receivers.get(transfer)!;
    const { receiver, file } = receiving;
    this.#later(end, 5, () => {
      const lacking = file.chunks.filter(({ key }) => !end.machine.chunks.has(key));
      const missing = lacking.slice(0, TRANSFER_COMPLAINTS_REFS_MAX);
      this.#expect(end, receiving, missing);
      receiver.checked(
        run,
        missing.map(({ ref }) => ref),
      );
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
    this.#receive(end, receiver, task);
  }

  #received(end: End, { transfer, error }: TransferAction<SimBody> & { readonly kind: "received" }): void {
    const { file } = end.receivers.get(transfer)!;
    end.receivers.delete(transfer);
    end.tell({ kind: "over", transfer });
    if (error === undefined) store(end.machine, file);
    const task = end.tasks.get(transfer);
    end.tasks.delete(transfer);
    if (task !== undefined) this.#over(end, task, error);
  }

  #sent(end: End, { transfer, error }: TransferAction<SimBody> & { readonly kind: "sent" }): void {
    end.walks.delete(transfer);
    end.tell({ kind: "over", transfer });
    const task = end.tasks.get(transfer);
    end.tasks.delete(transfer);
    if (task?.kind === "put") this.#over(end, task, error);
  }

  #over(end: End, task: Task, error: PacketfsError | undefined): void {
    assert(task.outcome === "open", "a task ends twice");
    if (error === undefined) {
      task.outcome = "right";
      return;
    }
    assert(error.code.startsWith("PFS_"), `an error without a code: ${error.message}`);
    const isLost = this.#trouble.mended < 1 && error.code === "PFS_CHUNK_MISSING";
    const isReason = isLost || task.isCancelled;
    const isHonest = this.#isHonest && this.#trouble.drops === 0;
    assert(!isHonest || isReason, `without a reason: ${error.code} ${error.message}`);
    if (isReason || ++task.failures === FAILURES_MAX) task.outcome = error;
    else if (this.#isUp(end))
      this.#later(end, 100, () => {
        if (this.#isUp(end) && task.outcome === "open") this.#begin(end, task);
      });
  }

  get breaks(): number {
    return this.#breaks;
  }

  /** Bytes that were placed, and that no core has heard of, since the channel ended. */
  get unheardBytes(): number {
    return this.#unheardBytes;
  }
}

function store(machine: Machine, file: SimFile): void {
  machine.files.set(refKey(file.root), file);
  for (const { key } of file.chunks) machine.chunks.add(key);
}

/** What may be on its way, of a file of which a liar has said how long it is. */
function windowFor({ receiver, file }: Receiving): number {
  return windowOf(receiver.length ?? file.length);
}

function rowsOf(chunks: readonly SimChunk[]): Uint8Array {
  const bytes = Uint32Array.from(chunks, ({ from, end }) => end - from);
  return encodeRows({
    refs: Buffer.concat(chunks.map(({ ref }) => ref)),
    storedBytes: bytes,
    plainBytes: bytes,
    codec: Uint8Array.from(chunks, () => Codec.plain),
  });
}

function refsOf(refs: Uint8Array): Ref[] {
  return Array.from({ length: refs.byteLength / REF_BYTES }, (_, index) => refAt(refs, index));
}
