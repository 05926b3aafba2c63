/**
 * Lets a hub run packets here, and clients that have its grants: LOAD, EXEC, KEEP and CANCEL reach this node's own executors, RETURN
 * and LOG go back.
 */
import { MessageType, Priority } from "../../packets/envelope.ts";
import { errorToJson } from "../../packets/errors.ts";
import type { PacketfsError } from "../../packets/errors.ts";
import { requireExecFrame } from "../../packets/exec-frame.ts";
import { Flag, Op, PACKET_BYTES } from "../../packets/layout.ts";
import { decodePacket, packetCount } from "../../packets/packet.ts";
import type { Executor, Lane, Tenant } from "../../runtime/contracts/executor.ts";
import type { KernelUse } from "../../runtime/contracts/kernels.ts";
import { WireError } from "../errors.ts";
import { LOG_CHARACTERS_MAX } from "../limits.ts";
import { grantInvalid } from "../grants/grants.ts";
import type { Grants } from "../grants/grants.ts";
import type { Grant } from "../grants/grant.ts";
import { KeepMeta, LaneMeta, LoadMeta, RenewMeta, laneMeta, laneOf, newsCharacters } from "../messages.ts";
import type { LaneNews } from "../messages.ts";
import { readMeta } from "../wire/session/meta.ts";
import { Role, discardPackets } from "../wire/link.ts";
import type { Link, OutMessage, WireMessage } from "../wire/link.ts";
import { LaneTerms } from "./lane-terms.ts";
import type { GrantedProgram } from "./lane-terms.ts";
import { LogBudget } from "./log-budget.ts";
import type { Handler, Service } from "./service.ts";

interface ServedLane {
  /** Undefined while it is being loaded. */
  lane: Lane | undefined;
  readonly terms: LaneTerms | undefined;
  /** Aborted when it is over. */
  readonly over: AbortController;
}

/** Whose executors they are: there may be others from one moment to the next. */
export interface Lender {
  readonly executors: readonly Executor[];
}

export class LaneService implements Service {
  readonly handlers: ReadonlyMap<MessageType, Handler>;
  readonly #link: Link;
  readonly #lender: Lender;
  /** Undefined where the peer is the hub itself. */
  readonly #grants: Grants | undefined;
  /** By the peer's number. */
  readonly #lanes = new Map<number, ServedLane>();
  readonly #budget = new LogBudget(performance.now());

  /** A LOAD names one of the executors by its id. With `grants`, it takes one of those. */
  constructor(link: Link, lender: Lender, grants?: Grants) {
    this.#link = link;
    this.#lender = lender;
    this.#grants = grants;
    const handlers = new Map<MessageType, Handler>([
      [MessageType.LOAD, (message, reply) => this.#load(message, reply.signal)],
      [MessageType.EXEC, (message) => this.#exec(message)],
      [MessageType.KEEP, (message) => this.#keep(message)],
      [MessageType.CANCEL, (message) => this.#cancel(message)],
    ]);
    if (grants !== undefined) handlers.set(MessageType.GRANT, (message) => this.#renew(message));
    this.handlers = handlers;
  }

  async #load(message: WireMessage, withdrawn: AbortSignal): Promise<OutMessage> {
    const { executor: id, tenant, grant, engine } = readMeta(LoadMeta, message);
    const executor = this.#lender.executors.find((one) => one.id === id);
    if (executor === undefined)
      throw new WireError("PFS_NOT_FOUND", `there is no executor ${id} here`, { executor: id });
    const { op, flags, lane, ref } = decodePacket(message.packets);
    if (op !== Op.LOAD || message.packets.byteLength !== PACKET_BYTES) {
      throw new WireError("PFS_MESSAGE_INVALID", "a LOAD message carries one LOAD packet", {});
    }
    const program = (flags & Flag.INLINE) === 0 ? ref : { inline: ref, engine };
    if (this.#lanes.has(lane)) {
      throw new WireError("PFS_MESSAGE_INVALID", `lane ${lane} is loaded already`, { lane });
    }
    const loading = { executor: id, program: ref, isInline: (flags & Flag.INLINE) !== 0 };
    const terms = this.#termsOf(loading, grant, (error) => this.#lose(lane, error));
    const served: ServedLane = { lane: undefined, terms, over: new AbortController() };
    // What it says once it is over concerns nobody: its number may be that of another lane by then.
    const isOpen = (): boolean => this.#lanes.get(lane) === served;
    const listener = {
      returned: (frame: Uint8Array): void => {
        if (!isOpen()) return;
        this.#link.notify({
          type: MessageType.RETURN,
          priority: Priority.interactive,
          meta: laneMeta(lane, frame),
          packets: frame.slice(),
        });
        this.#within(lane, () => terms?.answered(packetCount(frame), served.lane?.cpuMs ?? 0));
      },
      logged: (at: number, text: string): void => {
        if (isOpen()) this.#say({ kind: "log", lane, at, text: bounded(text) });
      },
      noted: (text: string): void => {
        if (isOpen()) this.#say({ kind: "note", lane, text: bounded(text) });
      },
      measured: (uses: readonly KernelUse[]): void => {
        if (isOpen()) this.#say({ kind: "measured", lane, uses: [...uses] });
      },
      lost: (error: unknown): void => {
        if (isOpen()) this.#lose(lane, error);
      },
    };
    // Whoever gave up waiting does not close what it does not know of.
    const signal = AbortSignal.any([withdrawn, served.over.signal]);
    this.#lanes.set(lane, served);
    try {
      const loaded = await executor.load(program, listener, signal, this.#tenantOf(tenant));
      if (signal.aborted) await loaded.close();
      signal.throwIfAborted();
      served.lane = loaded;
    } catch (error) {
      if (this.#lanes.get(lane) === served) this.#forget(lane);
      throw error;
    }
    return { type: MessageType.LOADED };
  }

  /** A hub says for whom it loads a program; any other peer loads its own. */
  #tenantOf(said: Tenant | undefined): Tenant {
    const { role, id } = this.#link.peer;
    return role === Role.hub && said !== undefined ? said : id;
  }

  /** Under what the peer may load this: undefined for the hub. Throws PFS_GRANT_INVALID, PFS_GRANT_ENDED or PFS_PEER_QUOTA. */
  #termsOf(
    program: Omit<GrantedProgram, "client">,
    grant: Grant | undefined,
    onEnd: (error: PacketfsError) => void,
  ): LaneTerms | undefined {
    if (this.#grants === undefined) return undefined;
    if (grant === undefined) throw grantInvalid("there is none");
    return new LaneTerms(this.#grants, { ...program, client: this.#link.peer.id }, grant, onEnd);
  }

  async #renew(message: WireMessage): Promise<OutMessage> {
    const { lane, grant } = readMeta(RenewMeta, message);
    const terms = this.#lanes.get(lane)?.terms;
    if (terms === undefined) throw laneGone(lane);
    terms.renew(grant);
    return { type: MessageType.OK };
  }

  /** At once, as every packet comes this way. */
  #exec(message: WireMessage): undefined {
    const number = laneOf(message);
    const { lane, terms } = this.#lanes.get(number) ?? {};
    // A frame may still be under way when its lane is lost or closed: the sender places its packets again by itself.
    if (lane === undefined) return undefined;
    requireExecFrame(message.packets);
    if (this.#within(number, () => terms?.take(message.packets))) lane.exec(message.packets.slice());
    discardPackets(message);
    return undefined;
  }

  async #keep(message: WireMessage): Promise<OutMessage> {
    const { lane: number, name } = readMeta(KeepMeta, message);
    const lane = this.#lanes.get(number)?.lane;
    if (lane === undefined) throw laneGone(number);
    return { type: MessageType.OK, meta: { root: await lane.keep(name, message.packets) } };
  }

  async #cancel(message: WireMessage): Promise<undefined> {
    const { lane: number } = readMeta(LaneMeta, message);
    // What closing reports concerns nobody: the peer has no lane of that number any more.
    await this.#forget(number)
      ?.lane?.close()
      .catch(() => undefined);
    return undefined;
  }

  /** Whether that is within what the lane's grant allows; if not, the lane is lost. */
  #within(number: number, count: () => void): boolean {
    try {
      count();
      return true;
    } catch (error) {
      this.#lose(number, error);
      return false;
    }
  }

  /** The lane is over, and the peer is told why. */
  #lose(number: number, error: unknown): void {
    const served = this.#forget(number, error);
    if (served === undefined) return;
    this.#tell({ kind: "lost", lane: number, error: errorToJson(error) });
    void served.lane?.close().catch(() => undefined);
  }

  #forget(number: number, reason?: unknown): ServedLane | undefined {
    const served = this.#lanes.get(number);
    this.#lanes.delete(number);
    served?.terms?.close();
    // One that is being loaded is not loaded any more.
    served?.over.abort(reason);
    return served;
  }

  /** Says what nobody needs, within what this node may say. */
  #say(news: Exclude<LaneNews, { kind: "lost" }>): void {
    if (!this.#budget.admits(newsCharacters(news), performance.now())) return;
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
    const served = [...this.#lanes.keys()].map((number) => this.#forget(number));
    await Promise.all(served.map(async (each) => await each?.lane?.close()));
  }
}

function laneGone(lane: number): WireError {
  return new WireError("PFS_NODE_LOST", `lane ${lane} is gone`, { lane });
}

function bounded(text: string): string {
  return text.length > LOG_CHARACTERS_MAX ? text.slice(0, LOG_CHARACTERS_MAX) : text;
}
