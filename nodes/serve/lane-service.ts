/** Lets a hub run packets here: LOAD, EXEC, KEEP and CANCEL reach this node's own executors, RETURN and LOG go back. */
import { MessageType, Priority } from "../../packets/envelope.ts";
import { errorToJson } from "../../packets/errors.ts";
import { requireExecFrame } from "../../packets/exec-frame.ts";
import { Flag, Op, PACKET_BYTES } from "../../packets/layout.ts";
import { decodePacket } from "../../packets/packet.ts";
import type { Executor, Lane, Tenant } from "../../runtime/contracts/executor.ts";
import { WireError } from "../errors.ts";
import { LOG_CHARACTERS_MAX } from "../limits.ts";
import { KeepMeta, LaneMeta, LoadMeta } from "../messages.ts";
import type { LaneNews } from "../messages.ts";
import { readMeta } from "../wire/session/meta.ts";
import { Role } from "../wire/link.ts";
import type { Link, OutMessage, WireMessage } from "../wire/link.ts";
import { LogBudget } from "./log-budget.ts";
import type { Handler, Service } from "./service.ts";

export class LaneService implements Service {
  readonly handlers: ReadonlyMap<MessageType, Handler>;
  readonly #link: Link;
  readonly #executors: readonly Executor[];
  /** By the hub's number; undefined while a lane is being loaded. */
  readonly #lanes = new Map<number, Lane | undefined>();
  readonly #closing = new AbortController();
  readonly #budget = new LogBudget(performance.now());

  /** A LOAD names one of them by its id. */
  constructor(link: Link, executors: readonly Executor[]) {
    this.#link = link;
    this.#executors = executors;
    this.handlers = new Map<MessageType, Handler>([
      [MessageType.LOAD, (message, reply) => this.#load(message, reply.signal)],
      [MessageType.EXEC, (message) => this.#exec(message)],
      [MessageType.KEEP, (message) => this.#keep(message)],
      [MessageType.CANCEL, (message) => this.#cancel(message)],
    ]);
  }

  async #load(message: WireMessage, withdrawn: AbortSignal): Promise<OutMessage> {
    const { executor: id, tenant } = readMeta(LoadMeta, message);
    const executor = this.#executors.find((one) => one.id === id);
    if (executor === undefined)
      throw new WireError("PFS_NOT_FOUND", `there is no executor ${id} here`, { executor: id });
    const { op, flags, lane, ref } = decodePacket(message.packets);
    if (op !== Op.LOAD || message.packets.byteLength !== PACKET_BYTES) {
      throw new WireError("PFS_MESSAGE_INVALID", "a LOAD message carries one LOAD packet", {});
    }
    const program = (flags & Flag.INLINE) === 0 ? ref : { inline: ref };
    if (this.#lanes.has(lane)) {
      throw new WireError("PFS_MESSAGE_INVALID", `lane ${lane} is loaded already`, { lane });
    }
    const listener = {
      returned: (frame: Uint8Array): void =>
        this.#link.notify({
          type: MessageType.RETURN,
          priority: Priority.interactive,
          meta: { lane },
          packets: frame.slice(),
        }),
      logged: (at: number, text: string): void => this.#say({ kind: "log", lane, at, text: bounded(text) }),
      noted: (text: string): void => this.#say({ kind: "note", lane, text: bounded(text) }),
      lost: (error: unknown): void => {
        this.#lanes.delete(lane);
        this.#tell({ kind: "lost", lane, error: errorToJson(error) });
      },
    };
    // Whoever gave up waiting does not close what it does not know of.
    const signal = AbortSignal.any([withdrawn, this.#closing.signal]);
    this.#lanes.set(lane, undefined);
    try {
      const loaded = await executor.load(program, listener, signal, this.#tenantOf(tenant));
      if (signal.aborted) await loaded.close();
      signal.throwIfAborted();
      this.#lanes.set(lane, loaded);
    } catch (error) {
      this.#lanes.delete(lane);
      throw error;
    }
    return { type: MessageType.LOADED };
  }

  /** A hub says for whom it loads a program; any other peer loads its own. */
  #tenantOf(said: Tenant | undefined): Tenant {
    const { role, id } = this.#link.peer;
    return role === Role.hub && said !== undefined ? said : id;
  }

  async #exec(message: WireMessage): Promise<undefined> {
    const { lane: number } = readMeta(LaneMeta, message);
    const lane = this.#lanes.get(number);
    // A frame may still be under way when its lane is lost or closed: the sender places its packets again by itself.
    if (lane === undefined) return undefined;
    requireExecFrame(message.packets);
    lane.exec(message.packets);
    return undefined;
  }

  async #keep(message: WireMessage): Promise<OutMessage> {
    const { lane: number, name } = readMeta(KeepMeta, message);
    const lane = this.#lanes.get(number);
    if (lane === undefined) throw new WireError("PFS_NODE_LOST", `lane ${number} is gone`, { lane: number });
    return { type: MessageType.OK, meta: { root: await lane.keep(name, message.packets) } };
  }

  async #cancel(message: WireMessage): Promise<undefined> {
    const { lane: number } = readMeta(LaneMeta, message);
    const lane = this.#lanes.get(number);
    this.#lanes.delete(number);
    // What closing reports concerns nobody: the hub has no lane of that number any more.
    await lane?.close().catch(() => undefined);
    return undefined;
  }

  /** Says what nobody needs, within what this node may say. */
  #say(news: Exclude<LaneNews, { kind: "lost" }>): void {
    if (!this.#budget.admits(news.text.length, performance.now())) return;
    const cut = this.#budget.takeCut();
    if (cut > 0) {
      const text = `${cut} logs and notes of this node were left out: programs log more than it may send`;
      this.#tell({ kind: "note", lane: news.lane, text });
    }
    this.#tell(news);
  }

  #tell(news: LaneNews): void {
    this.#link.notify({ type: MessageType.LOG, meta: news });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    const lanes = [...this.#lanes.values()];
    this.#lanes.clear();
    await Promise.all(lanes.map(async (lane) => await lane?.close()));
  }
}

function bounded(text: string): string {
  return text.length > LOG_CHARACTERS_MAX ? text.slice(0, LOG_CHARACTERS_MAX) : text;
}
