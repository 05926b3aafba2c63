/** A hub as a client sees it: its names and chunks, its jobs, and the nodes behind it. */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Ref } from "../../packets/digest.ts";
import { PacketfsError, hasCode } from "../../packets/errors.ts";
import { RESULT_BYTES_MAX } from "../../runtime/limits.ts";
import { MessageType } from "../../packets/envelope.ts";
import type { Binding, NameRecord } from "../../runtime/contracts/catalog.ts";
import type { JobEvent } from "../../runtime/contracts/events.ts";
import type { JobInfo, JobOutcome } from "../../runtime/contracts/jobs.ts";
import type { Engine } from "../../runtime/contracts/kernels.ts";
import type { GcResult } from "../../runtime/contracts/maintenance.ts";
import type { StoreReport } from "../../runtime/contracts/maintenance.ts";
import { RefusalReason, WireError, WireErrorCode } from "../errors.ts";
import { CLIENT_RECONNECT_MS, RECONNECT_MS_MIN } from "../limits.ts";
import {
  GcResultJson,
  JobEventMeta,
  JobInfos,
  MachinesLanes,
  OutcomeJson,
  StoreReportJson,
  NodeStatuses,
} from "../messages.ts";
import type {
  JobMeta,
  MachineLanes,
  MaintenanceMeta,
  MembersMeta,
  NamedFile,
  NodeStatus,
} from "../messages.ts";
import type { BulkLinkOptions } from "../wire/bulk/dialing.ts";
import type { Link, WireMessage } from "../wire/link.ts";
import { readJson, readMeta } from "../wire/session/meta.ts";
import { Identity, keysFromJson } from "../wire/trust/keys.ts";
import { parseToken } from "../wire/trust/token.ts";
import { dial } from "../wire/zeromq/dial.ts";
import { LastingLink } from "./lasting-link.ts";
import type { ConnectionEvent } from "./lasting-link.ts";
import { HubProgram } from "./hub-program.ts";
import { NodeLinks } from "./node-links.ts";
import { RemoteStore } from "./remote-store.ts";
import { withValue } from "../../runtime/job/results.ts";

export interface RemoteProgram {
  /** JavaScript, unless it says otherwise. */
  readonly kind?: "code";
  readonly program: string;
  /** Root of the bundle's stream, stored at the hub; of packet code, its 32 bytes. */
  readonly code: Ref;
  /** Stored files that the program has beside those that it reads, by the names that it knows them by. */
  readonly beside?: Readonly<Record<string, string>>;
  readonly engine?: Engine;
}

export interface RemoteJob extends RemoteProgram {
  readonly args?: unknown;
  readonly files: readonly string[];
  readonly out?: string;
  readonly splitBytes?: number;
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: JobEvent) => void;
}

export interface MaintenanceOptions {
  readonly signal?: AbortSignal | undefined;
  /** How long the hub waits for its nodes; without it, as long as they say that they are at work. */
  readonly nodesMs?: number | undefined;
}

const LABEL = "client";

export interface HubClientOptions {
  readonly signal?: AbortSignal | undefined;
  /** How long what is asked waits for a lost hub or node to be there again; CLIENT_RECONNECT_MS by default. */
  readonly reconnectMs?: number | undefined;
  readonly onConnection?: ((event: ConnectionEvent) => void) | undefined;
  /** Whether packets of loaded programs go to nodes by themselves where the hub grants it; they do by default. */
  readonly direct?: boolean | undefined;
  /** Whether bytes that are verified otherwise may travel in the clear, where hub or node would have it so too; they do not by default. */
  readonly allowsClear?: boolean | undefined;
}

/** A client's session with a hub, dialed again when it is lost. What was asked goes on then where it was. */
export class HubClient {
  readonly data: RemoteStore;
  readonly #identity: Identity;
  readonly #options: HubClientOptions;
  /** Sessions with nodes that packets are sent to without the hub. */
  readonly #nodes = new NodeLinks((node, signal) => this.#dial(node, signal));
  /** By it the hub knows over another session whose results without names those are. */
  readonly #instance: string = randomBytes(8).toString("hex");
  #hasRun = false;

  /** Over a session that is there; `identity` is what it was dialed with. */
  constructor(link: Link | LastingLink, identity: Identity, options: HubClientOptions = {}) {
    this.data = storeOf(link);
    this.#identity = identity;
    this.#options = options;
    this.data.link.onRenewed((session) => {
      const meta: JobMeta = { op: "return", instance: this.#instance };
      if (this.#hasRun) session.notify({ type: MessageType.JOB, meta });
    });
  }

  /** Rejects with PFS_TOKEN_INVALID and as `dial` does. */
  static async connect(token: string, options: HubClientOptions = {}): Promise<HubClient> {
    const { curveKey, signingKey, secret, address } = parseToken(token, "client");
    const identity = Identity.fromSecret(secret);
    const server = { curveKey, signingKey };
    const dialHub = (signal: AbortSignal | undefined): Promise<Link> =>
      dial({
        address,
        server,
        identity,
        role: "client",
        label: LABEL,
        bulk: bulkOf(options),
        ...withSignal(signal),
      });
    const link = lasting(await dialHub(options.signal), dialHub, options);
    return new HubClient(link, identity, options);
  }

  /** A session with one of the hub's nodes. Rejects with PFS_NOT_FOUND, or PFS_PEER_UNREACHABLE when it does not listen. */
  async dialNode(wanted: string): Promise<RemoteStore> {
    const found = await this.#nodeCalled(wanted);
    if (found.role === "hub") return this.data;
    const { id } = found;
    // By its id: another node may have its label meanwhile. Its address may be another one.
    const again = async (signal: AbortSignal): Promise<Link> => {
      const node = await this.#nodeCalled(id).catch((cause: unknown) => {
        if (!hasCode(cause, WireErrorCode.notFound)) throw cause;
        const message = `node "${found.label}" is not there`;
        throw new WireError(WireErrorCode.unreachable, message, { node: found.label }, { cause });
      });
      return await this.#dial(node, signal);
    };
    return storeOf(lasting(await this.#dial(found, this.#options.signal), again, this.#options));
  }

  async #nodeCalled(wanted: string): Promise<NodeStatus> {
    const node = (await this.nodes()).find(({ id, label }) => id === wanted || label === wanted);
    if (node !== undefined) return node;
    throw new WireError(WireErrorCode.notFound, `the hub has no node called "${wanted}"`, { node: wanted });
  }

  async #dial(
    node: Pick<NodeStatus, "label" | "address" | "curveKey" | "signingKey">,
    signal: AbortSignal | undefined,
  ): Promise<Link> {
    const { address, label } = node;
    if (address === undefined) {
      const message = `node "${label}" does not listen; start it with "pfs join --listen HOST:PORT"`;
      throw new WireError(WireErrorCode.unreachable, message, { node: label });
    }
    const server = keysFromJson(node);
    const identity = this.#identity;
    try {
      const bulk = bulkOf(this.#options);
      return await dial({
        address,
        server,
        identity,
        role: "client",
        label: LABEL,
        bulk,
        ...withSignal(signal),
      });
    } catch (cause) {
      if (!(cause instanceof PacketfsError)) throw cause;
      const { data, message } = cause;
      // A node that has joined a moment ago learns from the hub whom it may let in, and knows nobody until then.
      const isStranger = hasCode(cause, WireErrorCode.refused) && data["reason"] === RefusalReason.key;
      if (!isStranger && !hasCode(cause, WireErrorCode.unreachable)) throw cause;
      const text = isStranger
        ? `node "${label}" does not know this client yet`
        : `node "${label}": ${message}`;
      throw new WireError(WireErrorCode.unreachable, text, { ...data, node: label }, { cause });
    }
  }

  /** A job that goes on at the hub while the connection is down, and is found again by its number. */
  async run({
    kind,
    program,
    code,
    args,
    files,
    beside = {},
    engine,
    out,
    splitBytes,
    signal,
    onEvent,
  }: RemoteJob): Promise<JobOutcome> {
    const number = randomBytes(8).toString("hex");
    const instance = this.#instance;
    this.#hasRun = true;
    let seen = 0;
    const follow = async (link: Link, progressed: () => void): Promise<JobOutcome> => {
      const meta: JobMeta = {
        op: "run",
        number,
        seen,
        instance,
        kind,
        program,
        code,
        files: [...files],
        beside: namedFiles(beside),
        engine,
        out,
        splitBytes,
      };
      const request = { type: MessageType.JOB, meta, chunks: argsJson(args) };
      const value: Uint8Array[] = [];
      let valueBytes = 0;
      for await (const message of link.stream(request, withSignal(signal))) {
        progressed();
        if (message.type === MessageType.JOB_EVENT) {
          const numbered = readMeta(JobEventMeta, message);
          seen = Math.max(seen, numbered.number);
          onEvent?.(numbered.event);
        } else if (message.type !== MessageType.FILE_DATA) {
          return outcomeOf(message, value);
        } else {
          valueBytes += message.chunks.byteLength;
          if (valueBytes > RESULT_BYTES_MAX) throw invalid("sends a value that is longer than one may be");
          value.push(message.chunks);
        }
      }
      throw invalid("ended a job without its outcome");
    };
    return await this.data.link.repeat(async (link, { progressed }) => {
      let isThere = false;
      const received = (): void => link.notify({ type: MessageType.JOB, meta: { op: "received", number } });
      try {
        const outcome = await follow(link, () => {
          isThere = true;
          progressed();
        });
        received();
        return outcome;
      } catch (error) {
        // The job's own failure, which the hub told; others are this side's, or the session's.
        if (isThere && error instanceof PacketfsError && !(error instanceof WireError)) received();
        throw error;
      }
    }, signal);
  }

  /** Loads a program into lanes that stay until it is closed; over another session it is loaded again. */
  async load({
    args,
    beside = {},
    ...program
  }: RemoteProgram & { readonly args?: unknown }): Promise<HubProgram> {
    const { direct } = this.#options;
    return await HubProgram.load(
      this.data.link,
      { ...program, beside: namedFiles(beside), args: argsJson(args) },
      { direct, nodes: this.#nodes },
    );
  }

  async nodes(): Promise<NodeStatus[]> {
    const reply = await this.data.link.request({ type: MessageType.MEMBERS });
    return readJson(NodeStatuses, reply);
  }

  /** The lanes of the hub and its nodes, at most so many of each; of those that say so. */
  async lanes(lanesMax: number): Promise<MachineLanes[]> {
    const meta: MembersMeta = { op: "lanes", lanesMax };
    return readJson(MachinesLanes, await this.data.link.request({ type: MessageType.MEMBERS, meta }));
  }

  /**
   * Gives a stream whose bytes one of the hub's nodes has a name at the hub, which asks its nodes for them: where it was just
   * started again, that node may not have joined it yet, and is waited for as a lost session is.
   */
  async bindAt(node: string, binding: Binding, signal?: AbortSignal): Promise<NameRecord> {
    const { reconnectMs = CLIENT_RECONNECT_MS } = this.#options;
    const giveUpAt = performance.now() + reconnectMs;
    for (let wasThere = false; ;) {
      try {
        return await this.data.catalog.bind(binding);
      } catch (error) {
        if (!hasCode(error, WireErrorCode.chunkMissing) || wasThere || performance.now() >= giveUpAt)
          throw error;
      }
      wasThere = (await this.nodes()).some(({ id }) => id === node);
      if (!wasThere) await sleep(RECONNECT_MS_MIN, undefined, { signal });
    }
  }

  /** The node gets packets again, whatever it did. Rejects with PFS_NOT_FOUND. */
  async allow(node: string): Promise<void> {
    const request = { type: MessageType.MEMBERS, meta: { op: "allow", node } };
    await this.data.link.repeat(async (link) => await link.request(request));
  }

  async jobs(): Promise<JobInfo[]> {
    return readJson(JobInfos, await this.#ask({ op: "list" }));
  }

  async cancel(job: string): Promise<void> {
    await this.data.link.repeat(async (link, { number }) => {
      try {
        await link.request({ type: MessageType.JOB, meta: { op: "cancel", job } });
      } catch (error) {
        // An earlier try may have ended it, though its answer never came.
        if (number === 0 || !hasCode(error, WireErrorCode.notFound)) throw error;
      }
    });
  }

  async verify(options: MaintenanceOptions = {}): Promise<StoreReport> {
    return readJson(StoreReportJson, await this.#maintenance("verify", options));
  }

  async gc(options: MaintenanceOptions = {}): Promise<GcResult> {
    return readJson(GcResultJson, await this.#maintenance("gc", options));
  }

  async close(): Promise<void> {
    await this.#nodes.close();
    await this.data.link.close();
  }

  async #ask(meta: JobMeta): Promise<WireMessage> {
    return await this.data.link.request({ type: MessageType.JOB, meta });
  }

  async #maintenance(op: "verify" | "gc", { signal, nodesMs }: MaintenanceOptions): Promise<WireMessage> {
    const meta: MaintenanceMeta = { op, nodesMs };
    return await this.data.link.request({ type: MessageType.MAINTENANCE, meta }, withSignal(signal));
  }
}

/** What it lacks it fetches from the others of its network. */
function storeOf(link: Link | LastingLink): RemoteStore {
  return new RemoteStore(link, { here: false });
}

function lasting(
  link: Link,
  dialAgain: (signal: AbortSignal) => Promise<Link>,
  { reconnectMs = CLIENT_RECONNECT_MS, onConnection }: HubClientOptions,
): LastingLink {
  return new LastingLink(link, { dial: dialAgain, reconnectMs, onEvent: onConnection });
}

function outcomeOf(message: WireMessage, value: readonly Uint8Array[]): JobOutcome {
  const { hasValue, ...outcome } = readJson(OutcomeJson, message);
  if (!hasValue) return outcome;
  // The text of a value has one character at least.
  if (value.length === 0) throw invalid("said that there is a value, and sent none");
  try {
    return withValue({ ...outcome, value: Buffer.concat(value) });
  } catch {
    throw invalid("sent a value that cannot be read");
  }
}

function invalid(what: string): WireError {
  return new WireError(WireErrorCode.messageInvalid, `the hub ${what}`, { reason: what });
}

function namedFiles(files: Readonly<Record<string, string>>): NamedFile[] {
  return Object.entries(files).map(([as, file]) => ({ as, file }));
}

function argsJson(args: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(args ?? null));
}

function bulkOf({ allowsClear = false }: HubClientOptions): BulkLinkOptions {
  return { allowsClear };
}

function withSignal(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}
