/** A hub as a client sees it: its names and chunks, its jobs, and the nodes behind it. */
import type { Ref } from "../../packets/digest.ts";
import { Op, PACKET_BYTES } from "../../packets/layout.ts";
import { atOf, opAt, packetCount } from "../../packets/packet.ts";
import { invalidPacket } from "../../packets/validate.ts";
import { RESULT_BYTES_MAX } from "../../runtime/limits.ts";
import { MessageType } from "../../packets/envelope.ts";
import type { JobEvent } from "../../runtime/contracts/events.ts";
import type { JobInfo, JobOutcome } from "../../runtime/contracts/jobs.ts";
import type { GcResult } from "../../runtime/contracts/maintenance.ts";
import type { StoreReport } from "../../runtime/contracts/maintenance.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import {
  GcResultJson,
  JobEventMeta,
  JobInfos,
  LoadedMeta,
  OutcomeJson,
  StoreReportJson,
  NodeStatuses,
} from "../messages.ts";
import type { JobMeta, NodeStatus } from "../messages.ts";
import type { Link, OutMessage, WireMessage } from "../wire/link.ts";
import { readJson, readMeta } from "../wire/session/meta.ts";
import { Identity } from "../wire/trust/keys.ts";
import { parseToken } from "../wire/trust/token.ts";
import { dial } from "../wire/zeromq/dial.ts";
import { RemoteStore } from "./remote-store.ts";
import { valueCodec } from "../../runtime/program/values.ts";

export interface RemoteJob {
  readonly program: string;
  /** Root of the bundle's stream, stored at the hub. */
  readonly code: Ref;
  readonly args?: unknown;
  readonly files: readonly string[];
  readonly out?: string;
  readonly splitBytes?: number;
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: JobEvent) => void;
}

const LABEL = "client";

export class HubClient {
  readonly data: RemoteStore;
  readonly #identity: Identity;

  /** Over a session that is there; `identity` is what it was dialed with. */
  constructor(link: Link, identity: Identity) {
    this.data = storeOf(link);
    this.#identity = identity;
  }

  /** Rejects with PFS_TOKEN_INVALID and as `dial` does. */
  static async connect(token: string, signal?: AbortSignal): Promise<HubClient> {
    const { curveKey, signingKey, secret, address } = parseToken(token, "client");
    const identity = Identity.fromSecret(secret);
    const server = { curveKey, signingKey };
    const link = await dial({
      address,
      server,
      identity,
      role: "client",
      label: LABEL,
      ...withSignal(signal),
    });
    return new HubClient(link, identity);
  }

  /** A session with one of the hub's nodes. Rejects with PFS_NOT_FOUND, or PFS_PEER_UNREACHABLE when it does not listen. */
  async dialNode(wanted: string, signal?: AbortSignal): Promise<RemoteStore> {
    const node = (await this.nodes()).find(({ id, label }) => id === wanted || label === wanted);
    if (node === undefined) {
      throw new WireError(WireErrorCode.notFound, `the hub has no node called "${wanted}"`, { node: wanted });
    }
    if (node.role === "hub") return this.data;
    if (node.address === undefined) {
      const message = `node "${wanted}" does not listen: it joined without --listen`;
      throw new WireError(WireErrorCode.unreachable, message, { node: wanted });
    }
    const server = {
      curveKey: Buffer.from(node.curveKey, "hex"),
      signingKey: Buffer.from(node.signingKey, "hex"),
    };
    const { address } = node;
    const identity = this.#identity;
    return storeOf(
      await dial({ address, server, identity, role: "client", label: LABEL, ...withSignal(signal) }),
    );
  }

  async run({
    program,
    code,
    args,
    files,
    out,
    splitBytes,
    signal,
    onEvent,
  }: RemoteJob): Promise<JobOutcome> {
    const meta: JobMeta = {
      op: "run",
      program,
      code,
      files: [...files],
      out,
      splitBytes,
    };
    const request = { type: MessageType.JOB, meta, chunks: argsJson(args) };
    const value: Uint8Array[] = [];
    let valueBytes = 0;
    for await (const message of this.data.link.stream(request, withSignal(signal))) {
      if (message.type === MessageType.JOB_EVENT) onEvent?.(readMeta(JobEventMeta, message));
      else if (message.type !== MessageType.FILE_DATA) return outcomeOf(message, value);
      else {
        valueBytes += message.chunks.byteLength;
        if (valueBytes > RESULT_BYTES_MAX) throw invalid("sends a value that is longer than one may be");
        value.push(message.chunks);
      }
    }
    throw invalid("ended a job without its outcome");
  }

  /** Loads a program into lanes that stay until it is closed. */
  async load(options: { readonly program: string; readonly code: Ref; readonly args?: unknown }): Promise<{
    exec(frame: Uint8Array): Promise<Uint8Array>;
    close(): Promise<void>;
    [Symbol.asyncDispose](): Promise<void>;
  }> {
    const { program, code, args } = options;
    const { loaded } = readMeta(
      LoadedMeta,
      await this.#ask({ op: "load", program, code }, { chunks: argsJson(args) }),
    );
    const close = async (): Promise<void> => void (await this.#ask({ op: "unload", loaded }));
    return {
      exec: async (packets) => {
        const { packets: answers } = await this.#ask({ op: "exec", loaded }, { packets });
        return requireAnswers(answers, packetCount(packets));
      },
      close,
      [Symbol.asyncDispose]: close,
    };
  }

  async nodes(): Promise<NodeStatus[]> {
    const reply = await this.data.link.request({ type: MessageType.MEMBERS });
    return readJson(NodeStatuses, reply);
  }

  async jobs(): Promise<JobInfo[]> {
    return readJson(JobInfos, await this.#ask({ op: "list" }));
  }

  async cancel(job: string): Promise<void> {
    await this.#ask({ op: "cancel", job });
  }

  async verify(signal?: AbortSignal): Promise<StoreReport> {
    return readJson(StoreReportJson, await this.#maintenance("verify", signal));
  }

  async gc(signal?: AbortSignal): Promise<GcResult> {
    return readJson(GcResultJson, await this.#maintenance("gc", signal));
  }

  async close(): Promise<void> {
    await this.data.link.close();
  }

  async #ask(meta: JobMeta, body: Pick<OutMessage, "packets" | "chunks"> = {}): Promise<WireMessage> {
    return await this.data.link.request({ type: MessageType.JOB, meta, ...body });
  }

  async #maintenance(op: "verify" | "gc", signal: AbortSignal | undefined): Promise<WireMessage> {
    return await this.data.link.request({ type: MessageType.MAINTENANCE, meta: { op } }, withSignal(signal));
  }
}

/** What it lacks it fetches from the others of its network. */
function storeOf(link: Link): RemoteStore {
  return new RemoteStore(link, { here: false });
}

function outcomeOf(message: WireMessage, value: readonly Uint8Array[]): JobOutcome {
  const { hasValue, ...outcome } = readJson(OutcomeJson, message);
  if (!hasValue) return outcome;
  try {
    return { ...outcome, value: valueCodec.decode(Buffer.concat(value).toString()) };
  } catch {
    throw invalid("sent a value that cannot be read");
  }
}

/** The answers, if they are `count` RETURN or FAULT packets, the i-th for the i-th EXEC. */
function requireAnswers(answers: Uint8Array, count: number): Uint8Array {
  const isRight = (index: number): boolean => {
    const op = opAt(answers, index);
    return (op === Op.RETURN || op === Op.FAULT) && atOf(answers, index) === index;
  };
  if (answers.byteLength !== count * PACKET_BYTES) throw invalid("did not answer each packet once");
  for (let index = 0; index < count; index++) {
    if (invalidPacket(answers, index) !== null || !isRight(index)) {
      throw invalid(`answered packet ${index} with something else`);
    }
  }
  return answers;
}

function invalid(what: string): WireError {
  return new WireError(WireErrorCode.messageInvalid, `the hub ${what}`, { reason: what });
}

function argsJson(args: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(args ?? null));
}

function withSignal(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}
