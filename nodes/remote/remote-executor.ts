/** The executors that a node lends, as a hub has them: the scheduler cannot tell them from one of its own. */
import type { Ref } from "../../packets/digest.ts";
import { MessageType, Priority } from "../../packets/envelope.ts";
import type { PacketfsError } from "../../packets/errors.ts";
import { Flag, Op } from "../../packets/layout.ts";
import { LANES_MAX } from "../../packets/limits.ts";
import { encodePacket } from "../../packets/packet.ts";
import type {
  Capacity,
  Executor,
  InlineCode,
  Lane,
  LaneListener,
  Tenant,
} from "../../runtime/contracts/executor.ts";
import type { AcceleratorInfo } from "../../runtime/contracts/kernels.ts";
import { LaneError, LaneErrorCode } from "../../runtime/errors.ts";
import { WireError } from "../errors.ts";
import { LOAD_TIMEOUT_MS, LOG_CHARACTERS_PER_SECOND } from "../limits.ts";
import type { Grant } from "../grants/grant.ts";
import { KeptMeta, LaneNews, laneMeta, laneOf, newsCharacters } from "../messages.ts";
import type { RenewMeta } from "../messages.ts";
import { LogBudget } from "../serve/log-budget.ts";
import type { Handler, Service } from "../serve/service.ts";
import { RemoteChunks } from "../transfer/remote-chunks.ts";
import { discardPackets } from "../wire/link.ts";
import type { ExecutorOffer, Link, WireMessage } from "../wire/link.ts";
import { readError } from "../wire/session/errors.ts";
import { readMeta } from "../wire/session/meta.ts";

export interface RemoteLoad {
  /** What the node calls it. */
  readonly executor: string;
  readonly program: Ref | InlineCode;
  readonly grant?: Grant;
  readonly tenant?: Tenant | undefined;
}

export interface RemoteLane extends Lane {
  /** What both sides of the link call it. Packets that say this of their lane travel without metadata. */
  readonly number: number;
  /** The lane goes on under this grant. Rejects with PFS_GRANT_INVALID, PFS_GRANT_ENDED or PFS_NODE_LOST. */
  renew(grant: Grant): Promise<void>;
}

/** All lanes of one link, whichever executor they are of, and what the node says about them. */
export class RemoteExecutors implements Service {
  /** One for each that the node offers, in its order, but for those of kinds that this version does not know. */
  readonly executors: readonly Executor[];
  /** What the node itself calls them. */
  readonly #names = new Map<Executor, string>();
  readonly handlers: ReadonlyMap<MessageType, Handler>;
  readonly #link: Link;
  readonly #listeners = new Map<number, LaneListener>();
  /** Twice what a node keeps to, which tells no time as we do. */
  readonly #budget = new LogBudget(performance.now(), 2);
  #lastLane = 0;

  constructor(link: Link) {
    this.#link = link;
    const chunks = new RemoteChunks(link, { here: true });
    const offers = link.peer.executors.filter(({ capacity }) => Object.keys(capacity).length > 0);
    this.executors = offers.map((offer, index) => {
      // A machine's first executor has its id, as that of a machine that has only one.
      const id = index === 0 ? link.peer.id : `${link.peer.id}.${offer.name}`;
      const load: Executor["load"] = (program, listener, signal, tenant) =>
        this.load({ executor: offer.name, program, tenant }, listener, signal);
      const executor = new RemoteExecutor({ id, label: link.peer.label, offer, chunks, load });
      this.#names.set(executor, offer.name);
      return executor;
    });
    this.handlers = new Map<MessageType, Handler>([
      [MessageType.RETURN, (message) => this.#returned(message)],
      [MessageType.LOG, (message) => this.#heard(message)],
    ]);
    void link.closed.then((error) => this.#lose(error));
  }

  /** What the node calls one of the executors. */
  nameOf(executor: Executor): string | undefined {
    return this.#names.get(executor);
  }

  /**
   * Loads a program into a lane of the executor that the node calls so. A client that is not the node's hub shows the hub's grant.
   * Rejects as `Executor.load`, and with PFS_GRANT_INVALID or PFS_GRANT_ENDED.
   */
  async load(
    { program, ...meta }: RemoteLoad,
    listener: LaneListener,
    signal: AbortSignal,
  ): Promise<RemoteLane> {
    signal.throwIfAborted();
    const lane = this.#freeLane();
    this.#listeners.set(lane, listener);
    const packets =
      "inline" in program
        ? encodePacket({ op: Op.LOAD, flags: Flag.INLINE, lane, ref: program.inline })
        : encodePacket({ op: Op.LOAD, lane, ref: program });
    const { engine } = "inline" in program ? program : {};
    const request = {
      type: MessageType.LOAD,
      meta: engine === undefined ? meta : { ...meta, engine },
      packets,
    };
    try {
      await this.#link.request(request, { signal, timeoutMs: LOAD_TIMEOUT_MS });
    } catch (error) {
      this.#listeners.delete(lane);
      signal.throwIfAborted();
      throw error;
    }
    return this.#lane(lane);
  }

  #lane(lane: number): RemoteLane {
    return {
      number: lane,
      renew: async (grant) => {
        const meta: RenewMeta = { op: "renew", lane, grant };
        await this.#link.request({ type: MessageType.GRANT, meta });
      },
      exec: (frame) => {
        if (!this.#listeners.has(lane)) return;
        const { interactive: priority } = Priority;
        this.#link.notify({ type: MessageType.EXEC, priority, meta: laneMeta(lane, frame), packets: frame });
      },
      keep: async (name, packets) => {
        if (!this.#listeners.has(lane)) throw new LaneError(LaneErrorCode.laneClosed, "the lane is closed");
        const reply = await this.#link.request({ type: MessageType.KEEP, meta: { lane, name }, packets });
        return readMeta(KeptMeta, reply).root;
      },
      close: async () => {
        if (this.#listeners.delete(lane)) this.#link.notify({ type: MessageType.CANCEL, meta: { lane } });
      },
    };
  }

  #freeLane(): number {
    for (let tries = 0; tries < LANES_MAX; tries++) {
      this.#lastLane = (this.#lastLane % LANES_MAX) + 1;
      if (!this.#listeners.has(this.#lastLane)) return this.#lastLane;
    }
    throw new WireError("PFS_PEER_QUOTA", `all ${LANES_MAX} lanes of ${this.#link.peer.label} are taken`, {
      max: LANES_MAX,
    });
  }

  /** At once, as every answer comes this way. */
  #returned(message: WireMessage): undefined {
    this.#listeners.get(laneOf(message))?.returned(message.packets);
    discardPackets(message);
    return undefined;
  }

  async #heard(message: WireMessage): Promise<undefined> {
    const news = readMeta(LaneNews, message);
    const listener = this.#listeners.get(news.lane);
    if (news.kind !== "lost" && !this.#budget.admits(newsCharacters(news), performance.now())) {
      if (!this.#budget.isFlooded) return undefined;
      const max = LOG_CHARACTERS_PER_SECOND;
      throw new WireError("PFS_PEER_QUOTA", "it floods its hub with logs and notes", { max });
    }
    const cut = this.#budget.takeCut();
    if (cut > 0)
      listener?.noted(`${cut} logs and notes of ${this.#link.peer.label} were left out: it sent too many`);
    if (news.kind === "log") listener?.logged(news.at, news.text);
    else if (news.kind === "note") listener?.noted(news.text);
    else if (news.kind === "measured") listener?.measured?.(news.uses);
    else {
      this.#listeners.delete(news.lane);
      listener?.lost(readError(news.error));
    }
  }

  #lose(error: PacketfsError): void {
    const listeners = [...this.#listeners.values()];
    this.#listeners.clear();
    for (const listener of listeners) listener.lost(error);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Its lanes end with the link.
  }
}

interface RemoteExecutorOptions {
  readonly id: string;
  readonly label: string;
  readonly offer: ExecutorOffer;
  readonly chunks: RemoteChunks;
  readonly load: Executor["load"];
}

class RemoteExecutor implements Executor {
  readonly id: string;
  readonly label: string;
  readonly capacity: Capacity;
  readonly edition: string;
  readonly accelerator: AcceleratorInfo | undefined;
  readonly load: Executor["load"];
  readonly #chunks: RemoteChunks;

  constructor({ id, label, offer, chunks, load }: RemoteExecutorOptions) {
    this.id = id;
    this.label = label;
    this.capacity = offer.capacity;
    this.edition = offer.edition;
    this.accelerator = offer.accelerator;
    this.load = load;
    this.#chunks = chunks;
  }

  get isSuspect(): boolean {
    return this.#chunks.isSuspect;
  }

  async has(refs: Uint8Array): Promise<Uint8Array> {
    return await this.#chunks.has(refs);
  }
}
