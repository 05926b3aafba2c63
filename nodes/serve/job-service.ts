/** Runs clients' programs on the hub's scheduler, and lets them watch. */
import { randomBytes } from "node:crypto";
import { MessageType, Priority } from "../../packets/envelope.ts";
import type { Ref } from "../../packets/digest.ts";
import type { JobHistory } from "../../runtime/job/job-history.ts";
import type { JobRunner, LoadedProgram } from "../../runtime/job/runner.ts";
import type { ProgramSpec } from "../../runtime/job/loaded-program.ts";
import { unnamedOut } from "../../runtime/job/results.ts";
import type { JobInput } from "../../runtime/contracts/jobs.ts";
import { reachable } from "../../runtime/stream/walk.ts";
import type { Runtime } from "../../runtime/machine.ts";
import type { StoreWriter } from "../../runtime/contracts/chunks.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import { PROGRAMS_PER_LINK_MAX, RESULT_PART_BYTES } from "../limits.ts";
import { JobMeta } from "../messages.ts";
import type { OutcomeJson } from "../messages.ts";
import type { OutMessage, Reply, WireMessage } from "../wire/link.ts";
import { readMeta } from "../wire/session/meta.ts";
import type { Handler, Service } from "./service.ts";

export interface JobServiceOptions {
  readonly runtime: Runtime;
  readonly runner: JobRunner;
  readonly history: JobHistory;
  /** Frees what executors keep for an output file. */
  readonly removeParts: (out: string) => Promise<void>;
  /** The stored file that a name or root in hexadecimal digits means. Rejects with PFS_NOT_FOUND. */
  readonly find: (file: string) => Promise<JobInput>;
}

interface OpenedProgram {
  readonly program: LoadedProgram;
  readonly writer: StoreWriter;
}

export class JobService implements Service {
  readonly handlers: ReadonlyMap<MessageType, Handler>;
  readonly #options: JobServiceOptions;
  readonly #open = new Map<string, OpenedProgram>();
  /** Outputs that nobody named: they are there to be read as long as the client is. */
  readonly #unnamed: string[] = [];
  readonly #closing = new AbortController();

  constructor(options: JobServiceOptions) {
    this.#options = options;
    this.handlers = new Map<MessageType, Handler>([
      [MessageType.JOB, (message, reply) => this.#answer(message, reply)],
    ]);
  }

  async #answer(message: WireMessage, reply: Reply): Promise<OutMessage> {
    const request = readMeta(JobMeta, message);
    const { runner, history } = this.#options;
    switch (request.op) {
      case "run":
        return await this.#run(request, message.chunks, reply);
      case "open":
        return await this.#openProgram(request, message.chunks);
      case "exec": {
        const answers = await this.#opened(request.session).program.exec(message.packets);
        return { type: MessageType.RETURN, packets: answers };
      }
      case "close": {
        await this.#closeProgram(request.session);
        return { type: MessageType.OK };
      }
      case "list":
        return { type: MessageType.OK, chunks: Buffer.from(JSON.stringify(await history.list(runner))) };
      case "cancel":
        if (!runner.cancel(request.job)) {
          throw new WireError(WireErrorCode.notFound, `no job ${request.job} is running`, {
            job: request.job,
          });
        }
        return { type: MessageType.OK };
    }
  }

  async #run(request: JobMeta & { op: "run" }, args: Uint8Array, reply: Reply): Promise<OutMessage> {
    const { runner, find } = this.#options;
    const { spec, writer } = await this.#prepare(request, args);
    try {
      const inputs = await Promise.all(request.files.map(find));
      const outcome = await runner.run(
        {
          ...spec,
          id: randomBytes(4).toString("hex"),
          inputs,
          ...(request.splitBytes === undefined ? {} : { splitBytes: request.splitBytes }),
          ...(request.out === undefined ? {} : { out: request.out }),
        },
        {
          // The client's own cancellation, or the loss of its link: nobody would get the result.
          signal: AbortSignal.any([reply.signal, this.#closing.signal]),
          onEvent: (event) => reply({ type: MessageType.JOB_EVENT, meta: event }, false),
        },
      );
      const { value, ...rest } = outcome;
      if (rest.file !== undefined && request.out === undefined) this.#unnamed.push(unnamedOut(rest.job));
      if (value !== undefined) await sendValue(Buffer.from(JSON.stringify(value)), reply);
      const json: OutcomeJson = { ...rest, hasValue: value !== undefined };
      return { type: MessageType.OK, chunks: Buffer.from(JSON.stringify(json)) };
    } finally {
      await writer.close();
    }
  }

  async #openProgram(request: JobMeta & { op: "open" }, args: Uint8Array): Promise<OutMessage> {
    if (this.#open.size >= PROGRAMS_PER_LINK_MAX) {
      const max = PROGRAMS_PER_LINK_MAX;
      throw new WireError(WireErrorCode.quota, `a client may have ${max} programs loaded at a time`, { max });
    }
    const { spec, writer } = await this.#prepare(request, args);
    const id = randomBytes(8).toString("hex");
    this.#open.set(id, { program: await this.#options.runner.open(spec), writer });
    return { type: MessageType.OK, meta: { session: id } };
  }

  /** What the program says of itself; its code stays in the store until the writer is closed. */
  async #prepare(
    { program: name, code }: { readonly program: string; readonly code: Ref },
    argsJson: Uint8Array,
  ): Promise<{ spec: ProgramSpec; writer: StoreWriter }> {
    const { runtime } = this.#options;
    const args = new TextDecoder().decode(argsJson);
    const writer = await runtime.store.openWriter();
    try {
      for await (const refs of reachable(runtime.source, code)) await writer.claim(refs);
      return { spec: { name, code, args, description: await runtime.inspect(code) }, writer };
    } catch (error) {
      await writer.close();
      throw error;
    }
  }

  #opened(session: string): OpenedProgram {
    const opened = this.#open.get(session);
    if (opened === undefined) {
      throw new WireError(WireErrorCode.notFound, `no program is loaded as ${session}`, { session });
    }
    return opened;
  }

  async #closeProgram(id: string): Promise<void> {
    const opened = this.#open.get(id);
    this.#open.delete(id);
    await opened?.program.close();
    await opened?.writer.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new WireError(WireErrorCode.cancelled, "the client is gone"));
    for (const id of this.#open.keys()) await this.#closeProgram(id);
    for (const out of this.#unnamed) await this.#options.removeParts(out);
  }
}

/** A value's JSON, in as many messages as it takes. */
async function sendValue(json: Uint8Array, reply: Reply): Promise<void> {
  for (let at = 0; at < json.byteLength; at += RESULT_PART_BYTES) {
    await reply.room();
    const chunks = json.subarray(at, at + RESULT_PART_BYTES);
    reply({ type: MessageType.FILE_DATA, priority: Priority.bulk, chunks }, false);
  }
}
