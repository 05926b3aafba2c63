/** A hub's jobs and loaded programs, for one client. */
import { randomBytes } from "node:crypto";
import { MessageType, Priority } from "../../packets/envelope.ts";
import type { Ref } from "../../packets/digest.ts";
import type { JobInput, StoredProgram } from "../../runtime/contracts/jobs.ts";
import type { Jobs, ProgramLanes } from "../../runtime/job/jobs.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import { PROGRAMS_PER_LINK_MAX, RESULT_PART_BYTES } from "../limits.ts";
import { JobMeta } from "../messages.ts";
import type { OutcomeJson } from "../messages.ts";
import type { OutMessage, Reply, WireMessage } from "../wire/link.ts";
import { readMeta } from "../wire/session/meta.ts";
import type { Handler, Service } from "./service.ts";
import { valueCodec } from "../../runtime/program/values.ts";

export class JobService implements Service {
  readonly handlers: ReadonlyMap<MessageType, Handler>;
  readonly #jobs: Jobs;
  readonly #find: (file: string) => Promise<JobInput>;
  readonly #loaded = new Map<string, ProgramLanes>();
  /** Jobs whose results have no name: they are there to be read as long as the client is. */
  readonly #held: string[] = [];
  readonly #closing = new AbortController();

  /** `find`: the stored file that a text stands for. Rejects with PFS_NOT_FOUND or PFS_ROOT_AMBIGUOUS. */
  constructor(jobs: Jobs, find: (file: string) => Promise<JobInput>) {
    this.#jobs = jobs;
    this.#find = find;
    this.handlers = new Map<MessageType, Handler>([
      [MessageType.JOB, (message, reply) => this.#answer(message, reply)],
    ]);
  }

  async #answer(message: WireMessage, reply: Reply): Promise<OutMessage> {
    const request = readMeta(JobMeta, message);
    switch (request.op) {
      case "run":
        return await this.#run(request, message.chunks, reply);
      case "load":
        return await this.#load(request, message.chunks);
      case "exec": {
        const answers = await this.#loadedAs(request.loaded).exec(message.packets);
        return { type: MessageType.RETURN, packets: answers };
      }
      case "unload": {
        await this.#unload(request.loaded);
        return { type: MessageType.OK };
      }
      case "list":
        return { type: MessageType.OK, chunks: Buffer.from(JSON.stringify(await this.#jobs.list())) };
      case "cancel":
        if (!this.#jobs.cancel(request.job)) {
          throw new WireError(WireErrorCode.notFound, `no job ${request.job} is running`, {
            job: request.job,
          });
        }
        return { type: MessageType.OK };
    }
  }

  async #run(request: JobMeta & { op: "run" }, args: Uint8Array, reply: Reply): Promise<OutMessage> {
    const inputs = await Promise.all(request.files.map(this.#find));
    const { splitBytes, out } = request;
    const { value, ...rest } = await this.#jobs.run(
      { ...stored(request, args), inputs, splitBytes, out },
      {
        // The client's own cancellation, or the loss of its link: nobody would get the result.
        signal: AbortSignal.any([reply.signal, this.#closing.signal]),
        onEvent: (event) => reply({ type: MessageType.JOB_EVENT, meta: event }, false),
      },
    );
    this.#held.push(rest.job);
    if (value !== undefined) await sendValue(Buffer.from(valueCodec.encode(value, "the result is")), reply);
    const json: OutcomeJson = { ...rest, hasValue: value !== undefined };
    return { type: MessageType.OK, chunks: Buffer.from(JSON.stringify(json)) };
  }

  async #load(request: JobMeta & { op: "load" }, args: Uint8Array): Promise<OutMessage> {
    if (this.#loaded.size >= PROGRAMS_PER_LINK_MAX) {
      const max = PROGRAMS_PER_LINK_MAX;
      throw new WireError(WireErrorCode.quota, `a client may have ${max} programs loaded at a time`, { max });
    }
    const program = await this.#jobs.load(stored(request, args));
    if (this.#closing.signal.aborted) {
      await program.close();
      throw this.#closing.signal.reason;
    }
    const loaded = randomBytes(8).toString("hex");
    this.#loaded.set(loaded, program);
    return { type: MessageType.OK, meta: { loaded } };
  }

  #loadedAs(loaded: string): ProgramLanes {
    const program = this.#loaded.get(loaded);
    if (program === undefined) {
      throw new WireError(WireErrorCode.notFound, `no program is loaded as ${loaded}`, { loaded });
    }
    return program;
  }

  async #unload(loaded: string): Promise<void> {
    const program = this.#loaded.get(loaded);
    this.#loaded.delete(loaded);
    await program?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new WireError(WireErrorCode.cancelled, "the client is gone"));
    for (const loaded of this.#loaded.keys()) await this.#unload(loaded);
    for (const job of this.#held) await this.#jobs.release(job);
  }
}

function stored(
  { program, code }: { readonly program: string; readonly code: Ref },
  args: Uint8Array,
): StoredProgram {
  return { name: program, code, args: new TextDecoder().decode(args) };
}

/** A value's text, in as many messages as it takes. */
async function sendValue(json: Uint8Array, reply: Reply): Promise<void> {
  for (let at = 0; at < json.byteLength; at += RESULT_PART_BYTES) {
    await reply.room();
    const chunks = json.subarray(at, at + RESULT_PART_BYTES);
    reply({ type: MessageType.FILE_DATA, priority: Priority.bulk, chunks }, false);
  }
}
