/** An `Executor` whose lanes are on the other side of a link. The scheduler cannot tell it from a local one. */
import type { Ref } from "../../packets/digest.ts";
import { MessageType, Priority } from "../../packets/envelope.ts";
import { PacketfsError } from "../../packets/errors.ts";
import type { ErrorJson } from "../../packets/errors.ts";
import { takeIn } from "../../packets/exec-frame.ts";
import { Op } from "../../packets/layout.ts";
import { LANES_MAX } from "../../packets/limits.ts";
import { encodePacket } from "../../packets/packet.ts";
import type { Capacity, Executor, Lane, LaneListener } from "../../runtime/contracts/executor.ts";
import { LaneError, LaneErrorCode } from "../../runtime/errors.ts";
import { WireError } from "../errors.ts";
import { LOAD_TIMEOUT_MS } from "../limits.ts";
import { KeptMeta, LaneMeta, LaneNews } from "../messages.ts";
import type { Handler, Service } from "../serve/service.ts";
import { RemoteChunks } from "../transfer/remote-chunks.ts";
import type { Link, WireMessage } from "../wire/link.ts";
import { readMeta } from "../wire/session/meta.ts";

export class RemoteExecutor implements Executor, Service {
  readonly id: string;
  readonly label: string;
  readonly capacity: Capacity;
  readonly handlers: ReadonlyMap<MessageType, Handler>;
  readonly #link: Link;
  readonly #chunks: RemoteChunks;
  readonly #listeners = new Map<number, LaneListener>();
  #lastLane = 0;

  constructor(link: Link, capacity: Capacity) {
    this.id = link.peer.id;
    this.label = link.peer.label;
    this.capacity = capacity;
    this.#link = link;
    this.#chunks = new RemoteChunks(link, { here: true });
    this.handlers = new Map<MessageType, Handler>([
      [MessageType.RETURN, (message) => this.#returned(message)],
      [MessageType.LOG, (message) => this.#heard(message)],
    ]);
    void link.closed.then((error) => this.#lose(error));
  }

  async load(manifest: Ref, listener: LaneListener, signal: AbortSignal): Promise<Lane> {
    const lane = this.#freeLane();
    this.#listeners.set(lane, listener);
    const packets = encodePacket({ op: Op.LOAD, lane, ref: manifest });
    try {
      await this.#link.request({ type: MessageType.LOAD, packets }, { signal, timeoutMs: LOAD_TIMEOUT_MS });
    } catch (error) {
      this.#listeners.delete(lane);
      throw error;
    }
    return this.#lane(lane);
  }

  async has(refs: Uint8Array): Promise<Uint8Array> {
    return await this.#chunks.has(refs);
  }

  #lane(lane: number): Lane {
    return {
      exec: (frame) => {
        if (!this.#listeners.has(lane)) return;
        const packets = takeIn(frame, lane);
        this.#link.notify({
          type: MessageType.EXEC,
          priority: Priority.interactive,
          meta: { lane },
          packets,
        });
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
    throw new WireError("PFS_PEER_QUOTA", `all ${LANES_MAX} lanes of ${this.label} are taken`, {
      max: LANES_MAX,
    });
  }

  async #returned(message: WireMessage): Promise<undefined> {
    this.#listeners.get(readMeta(LaneMeta, message).lane)?.returned(message.packets);
  }

  async #heard(message: WireMessage): Promise<undefined> {
    const news = readMeta(LaneNews, message);
    const listener = this.#listeners.get(news.lane);
    if (news.kind === "log") listener?.logged(news.at, news.text);
    else if (news.kind === "note") listener?.noted(news.text);
    else {
      this.#listeners.delete(news.lane);
      listener?.lost(PacketfsError.fromJSON(news.error as ErrorJson));
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
