/** A hub's jobs and loaded programs, for one client. */
import { randomBytes } from "node:crypto";
import { codeText } from "../../packets/code/text.ts";
import { MessageType, Priority } from "../../packets/envelope.ts";
import type { PacketfsError } from "../../packets/errors.ts";
import { invalidName } from "../../packets/name.ts";
import { packetCount } from "../../packets/packet.ts";
import type { Catalog } from "../../runtime/contracts/catalog.ts";
import type { JobEvent } from "../../runtime/contracts/events.ts";
import type {
  JobInfo,
  JobInput,
  JobOutcome,
  JobRequest,
  StoredProgram,
} from "../../runtime/contracts/jobs.ts";
import { SHARED_CALL_PACKETS_MAX } from "../../runtime/limits.ts";
import type { Jobs, LoadableProgram, ProgramLanes, RunJobOptions } from "../../runtime/job/jobs.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import { JOBS_KERNELS_BYTES_MAX, PROGRAMS_PER_LINK_MAX, RESULT_PART_BYTES } from "../limits.ts";
import { JobMeta } from "../messages.ts";
import type { GrantedMeta, JobEventMeta, OutcomeJson } from "../messages.ts";
import type { OutMessage, Reply, WireMessage } from "../wire/link.ts";
import { readMeta } from "../wire/session/meta.ts";
import type { FollowedJobs, SentOutcome } from "./followed-jobs.ts";
import type { Attendance, HeldResults } from "./held-results.ts";
import { mayReturn } from "./service.ts";
import type { Handler, Service } from "./service.ts";
import type { Usage } from "./usage.ts";

export interface JobServiceOptions {
  readonly jobs: Jobs;
  /** Those of all clients. */
  readonly followed: FollowedJobs;
  readonly held: HeldResults;
  /** Which client this is for, and what it has in use. */
  readonly usage: Usage;
  /** The stored file that a text stands for. Rejects with PFS_NOT_FOUND or PFS_ROOT_AMBIGUOUS. */
  readonly find: (file: string) => Promise<JobInput>;
  readonly resolve: Catalog["resolve"];
  readonly grants: GrantIssuer;
}

/** Who says which nodes clients may send packets to themselves. */
export interface GrantIssuer {
  /** Grants for a client's loaded program, which has this name here: those that it has hold beside them. */
  issue(wanted: {
    readonly client: string;
    readonly job: string;
    readonly program: LoadableProgram;
  }): GrantedMeta;
  /** None of those for this program hold any more. */
  withdraw(job: string): void;
}

export class JobService implements Service {
  readonly handlers: ReadonlyMap<MessageType, Handler>;
  readonly #options: JobServiceOptions;
  readonly #jobs: Jobs;
  readonly #loaded = new Map<string, ProgramLanes>();
  /** Programs that are being loaded. */
  #loading = 0;
  /** Of the instance of a client whose session this is, once it has said which. */
  #present: { readonly instance: string; readonly attendance: Attendance } | undefined;
  readonly #closing = new AbortController();
  #mayReturn = false;

  constructor(options: JobServiceOptions) {
    this.#options = options;
    this.#jobs = options.jobs;
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
      case "exec":
        return await this.#exec(request.loaded, message.packets, reply.signal);
      case "unload": {
        await this.#unload(request.loaded);
        return { type: MessageType.OK };
      }
      case "grant":
        return { type: MessageType.OK, meta: this.#grant(request.loaded) };
      case "list":
        return { type: MessageType.OK, chunks: Buffer.from(jobsJson(await this.#jobs.list())) };
      case "cancel":
        if (!this.#options.usage.mayCancel(request.job)) {
          const text = "a submitter may end jobs of its own only";
          throw new WireError(WireErrorCode.notAllowed, text, { job: request.job });
        }
        if (!this.#jobs.cancel(request.job)) {
          throw new WireError(WireErrorCode.notFound, `no job ${request.job} is running`, {
            job: request.job,
          });
        }
        return { type: MessageType.OK };
      case "received":
        this.#options.followed.received(this.#options.usage.id, request.number);
        return { type: MessageType.OK };
      case "return":
        this.#attend(request.instance);
        return { type: MessageType.OK };
    }
  }

  async #run(request: JobMeta & { op: "run" }, args: Uint8Array, reply: Reply): Promise<OutMessage> {
    const { number = randomBytes(8).toString("hex"), seen = 0 } = request;
    const attendance = this.#attend(request.instance);
    const follower = this.#options.followed.follow({
      client: this.#options.usage.id,
      number,
      seen,
      onEvent: (event, at) => {
        const meta: JobEventMeta = { number: at, event };
        reply({ type: MessageType.JOB_EVENT, meta }, false);
      },
      start: (signal, onEvent) => this.#start({ request, args }, { signal, onEvent }),
    });
    // A client that gave up, or went in order, wants no result; one whose connection broke may come back for it.
    const gone = (): void => {
      const { reason } = reply.signal;
      if (mayReturn(reason)) follower.leave();
      else follower.cancel(reason);
    };
    reply.signal.addEventListener("abort", gone, { once: true });
    if (reply.signal.aborted) gone();
    const { outcome, value } = await follower.outcome;
    const { file, job } = outcome;
    if (file !== undefined && file.name === undefined) await attendance.hold(job);
    if (value !== undefined) await sendValue(value, reply);
    const json: OutcomeJson = { ...outcome, hasValue: value !== undefined };
    return { type: MessageType.OK, chunks: Buffer.from(JSON.stringify(json)) };
  }

  async #start(
    { request, args }: { request: JobMeta & { op: "run" }; args: Uint8Array },
    options: RunJobOptions,
  ): Promise<SentOutcome> {
    const inputs = await Promise.all(request.files.map(this.#options.find));
    const { splitBytes, out } = request;
    const expected = out === undefined ? undefined : await this.#replaced(out);
    // Not the client's number, which another client may have chosen too: whoever runs a job under an id has its result.
    const id = this.#jobs.newId();
    const asked = { ...(await this.#stored(request, args)), id, inputs, splitBytes, out, expected };
    const { value, ...outcome } = await this.#runCounted(asked, options);
    const { file } = outcome;
    if (file?.name !== undefined) await this.#options.usage.stored(file.name, file.root);
    return { outcome, value };
  }

  /**
   * The version that a name must have when the job is done, 0 for none; undefined where that is all the same. Rejects with
   * PFS_NOT_ALLOWED when the client may not replace what the name means.
   */
  async #replaced(out: string): Promise<number | undefined> {
    const { resolve, usage } = this.#options;
    if (!usage.isConfined) return undefined;
    const record = invalidName(out) === null ? await resolve(out) : undefined;
    if (record !== undefined && !(await usage.hasMade(record))) {
      const text = `a submitter may not replace "${out}", which others stored; store the result under another name`;
      throw new WireError(WireErrorCode.notAllowed, text, { name: out });
    }
    return record?.version ?? 0;
  }

  /** Runs a job as one of those that the client may have; it ends when its packets are more than that. */
  async #runCounted(
    asked: JobRequest & { readonly id: string },
    options: RunJobOptions,
  ): Promise<JobOutcome<Uint8Array>> {
    const { usage } = this.#options;
    let packets = 0;
    const count = (unanswered: number): void => {
      if (unanswered > packets) usage.reserve("packets", unanswered - packets);
      else usage.release("packets", packets - unanswered);
      packets = unanswered;
    };
    const onEvent = (event: JobEvent): void => {
      // What is too much ends the job as a failure of its own: nobody cancelled it.
      if (event.kind === "started") count(event.tasks);
      if (event.kind === "progress") count(event.tasks - event.done);
      options.onEvent?.(event);
    };
    usage.reserve("jobs", 1);
    usage.running.add(asked.id);
    try {
      return await this.#jobs.run(asked, { ...options, onEvent });
    } finally {
      count(0);
      usage.running.delete(asked.id);
      usage.release("jobs", 1);
    }
  }

  async #exec(loaded: string, frame: Uint8Array, signal: AbortSignal): Promise<OutMessage> {
    const { usage } = this.#options;
    const program = this.#loadedAs(loaded);
    const packets = packetCount(frame);
    // What can be dropped is a batch by itself, which few packets are not worth.
    const isLarge = packets > SHARED_CALL_PACKETS_MAX;
    usage.reserve("packets", packets);
    try {
      return { type: MessageType.RETURN, packets: await program.exec(frame, isLarge ? signal : undefined) };
    } finally {
      usage.release("packets", packets);
    }
  }

  async #load(request: JobMeta & { op: "load" }, args: Uint8Array): Promise<OutMessage> {
    if (this.#loaded.size + this.#loading >= PROGRAMS_PER_LINK_MAX) {
      const max = PROGRAMS_PER_LINK_MAX;
      throw new WireError(WireErrorCode.quota, `a client may have ${max} programs loaded at a time`, { max });
    }
    this.#loading++;
    try {
      const program = await this.#jobs.load(await this.#stored(request, args));
      if (this.#closing.signal.aborted) {
        await program.close();
        throw this.#closing.signal.reason;
      }
      const loaded = randomBytes(8).toString("hex");
      this.#loaded.set(loaded, program);
      return { type: MessageType.OK, meta: { loaded } };
    } finally {
      this.#loading--;
    }
  }

  /** The program is the client's: of what ran it, nothing is given to another. Rejects as `find` does. */
  async #stored(
    { kind, program, code, beside = [], engine }: Omit<JobMeta & { op: "load" }, "op">,
    args: Uint8Array,
  ): Promise<StoredProgram> {
    const { id: tenant } = this.#options.usage;
    if (kind !== undefined) return { kind, name: codeText(code), code, args: "null", tenant, engine };
    const found = beside.map(async ({ as, file }) => [as, await this.#options.find(file)] as const);
    const files = Object.fromEntries(await Promise.all(found));
    return { name: program, code, args: new TextDecoder().decode(args), tenant, engine, files };
  }

  /** Where the client may send packets of the program itself. Its hub counts what has a quota of packets, so that goes through it. */
  #grant(loaded: string): GrantedMeta {
    const { grants, usage } = this.#options;
    const program = this.#loadedAs(loaded).loadable;
    if (program === undefined || usage.isLimited("packets")) return { nodes: [], others: 0, packetMs: 0 };
    return grants.issue({ client: usage.id, job: loaded, program });
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
    this.#options.grants.withdraw(loaded);
    await program?.close();
  }

  ended(reason: PacketfsError): void {
    this.#mayReturn = mayReturn(reason);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new WireError(WireErrorCode.cancelled, "the client is gone"));
    try {
      await Promise.all([...this.#loaded.keys()].map((loaded) => this.#unload(loaded)));
    } finally {
      await this.#present?.attendance.leave(this.#mayReturn);
    }
  }

  /** Throws PFS_MESSAGE_INVALID when the session is that of another instance. */
  #attend(instance: string | undefined): Attendance {
    this.#closing.signal.throwIfAborted();
    const { held, usage } = this.#options;
    if (this.#present === undefined) {
      const present = instance ?? randomBytes(8).toString("hex");
      this.#present = { instance: present, attendance: held.attend(usage.id, present) };
    } else if (instance !== undefined && instance !== this.#present.instance) {
      throw new WireError(WireErrorCode.messageInvalid, "a session is that of one instance of a client", {});
    }
    return this.#present.attendance;
  }
}

/** A value's text, in as many messages as it takes. */
async function sendValue(json: Uint8Array, reply: Reply): Promise<void> {
  for (let at = 0; at < json.byteLength; at += RESULT_PART_BYTES) {
    await reply.room();
    const chunks = json.subarray(at, at + RESULT_PART_BYTES);
    reply({ type: MessageType.FILE_DATA, priority: Priority.bulk, chunks }, false);
  }
}

/** Jobs, those that count most first. What computed their kernels is left out of the last ones where it would be too much. */
export function jobsJson(jobs: readonly JobInfo[]): string {
  let bytes = 0;
  const told = jobs.map(({ kernels, ...job }): JobInfo => {
    if (kernels === undefined) return job;
    bytes += Buffer.byteLength(JSON.stringify(kernels));
    return bytes <= JOBS_KERNELS_BYTES_MAX ? { ...job, kernels } : job;
  });
  return JSON.stringify(told);
}
