/** A program that a client has loaded at a hub: into lanes that stay, and again over another session when one is lost. */
import type { Ref } from "../../packets/digest.ts";
import { MessageType } from "../../packets/envelope.ts";
import { PacketErrorCode, hasCode } from "../../packets/errors.ts";
import { notExecutable, wrongAnswerAt } from "../../packets/exec-frame.ts";
import { PACKET_BYTES } from "../../packets/layout.ts";
import { FRAME_PACKETS_MAX } from "../../packets/limits.ts";
import { atOf, packetCount, renumberPackets } from "../../packets/packet.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import { GrantedMeta, LoadedMeta } from "../messages.ts";
import type { Engine } from "../../runtime/contracts/kernels.ts";
import type { JobMeta, NamedFile } from "../messages.ts";
import type { Link } from "../wire/link.ts";
import { readMeta } from "../wire/session/meta.ts";
import { DirectProgram } from "./direct-program.ts";
import type { LastingLink } from "./lasting-link.ts";
import type { NodeLinks } from "./node-links.ts";

/** What a client asks a hub to load. */
export interface ProgramToLoad {
  readonly kind?: "code";
  readonly program: string;
  readonly code: Ref;
  readonly beside: NamedFile[];
  readonly engine?: Engine;
  /** JSON. */
  readonly args: Uint8Array;
}

export interface HubProgramOptions {
  /** Whether packets go to nodes by themselves where the hub grants it; true by default. */
  readonly direct?: boolean | undefined;
  readonly nodes: NodeLinks;
}

export class HubProgram {
  readonly #link: LastingLink;
  readonly #program: ProgramToLoad;
  readonly #direct: DirectProgram;
  readonly #isDirect: boolean;
  #present: { readonly link: Link; readonly loaded: Promise<string> } | undefined;

  private constructor(
    link: LastingLink,
    program: ProgramToLoad,
    { direct = true, nodes }: HubProgramOptions,
  ) {
    this.#link = link;
    this.#program = program;
    this.#isDirect = direct;
    this.#direct = new DirectProgram({
      nodes,
      relay: (packets, signal) => this.#relay(packets, signal),
      ask: (signal) => this.#ask(signal),
    });
  }

  static async load(
    link: LastingLink,
    program: ProgramToLoad,
    options: HubProgramOptions,
  ): Promise<HubProgram> {
    const loaded = new HubProgram(link, program, options);
    await link.repeat((session) => loaded.#over(session));
    return loaded;
  }

  /** What becomes of its packets. */
  get direct(): Pick<DirectProgram, "answered" | "settled"> {
    return this.#direct;
  }

  /** As `ProgramLanes.exec` of the hub. */
  exec(packets: Uint8Array, signal?: AbortSignal): Promise<Uint8Array> {
    return packetCount(packets) > FRAME_PACKETS_MAX
      ? inMessages(packets, (part) => this.#exec(part, signal))
      : this.#exec(packets, signal);
  }

  async close(): Promise<void> {
    await this.#direct.close();
    // With its session it has ended by itself.
    if (this.#present === undefined || this.#present.link.ended !== undefined) return;
    const { link, loaded } = this.#present;
    const id = await loaded.catch(() => undefined);
    if (id === undefined) return;
    const meta: JobMeta = { op: "unload", loaded: id };
    await link.request({ type: MessageType.JOB, meta });
  }

  #exec(packets: Uint8Array, signal: AbortSignal | undefined): Promise<Uint8Array> {
    return this.#isDirect ? this.#direct.exec(packets, signal) : this.#direct.relay(packets, signal);
  }

  async #relay(packets: Uint8Array, signal: AbortSignal | undefined): Promise<Uint8Array> {
    return await this.#link.repeat(async (link) => {
      const meta: JobMeta = { op: "exec", loaded: await this.#over(link) };
      const request = { type: MessageType.JOB, meta, packets };
      const { packets: answers } = await link.request(request, signal === undefined ? {} : { signal });
      return requireAnswers(answers, packetCount(packets));
    }, signal);
  }

  async #ask(signal: AbortSignal): Promise<GrantedMeta> {
    return await this.#link.repeat(async (link) => {
      const meta: JobMeta = { op: "grant", loaded: await this.#over(link) };
      return readMeta(GrantedMeta, await link.request({ type: MessageType.JOB, meta }, { signal }));
    }, signal);
  }

  /** What the hub calls it over this session. */
  #over(link: Link): Promise<string> {
    if (this.#present?.link === link) return this.#present.loaded;
    const loading = { link, loaded: this.#load(link) };
    this.#present = loading;
    // What it failed for may be over when somebody tries again.
    loading.loaded.catch(() => {
      if (this.#present === loading) this.#present = undefined;
    });
    return loading.loaded;
  }

  async #load(link: Link): Promise<string> {
    const { args, ...program } = this.#program;
    const meta: JobMeta = { op: "load", ...program };
    return readMeta(LoadedMeta, await link.request({ type: MessageType.JOB, meta, chunks: args })).loaded;
  }
}

/** Executes a frame that is too long for a message as several, and joins their answers. */
async function inMessages(
  packets: Uint8Array,
  exec: (part: Uint8Array) => Promise<Uint8Array>,
): Promise<Uint8Array> {
  const answers = new Uint8Array(packets.byteLength);
  const parts: Promise<void>[] = [];
  const partBytes = FRAME_PACKETS_MAX * PACKET_BYTES;
  for (let start = 0; start < packets.byteLength; start += partBytes) {
    const first = start / PACKET_BYTES;
    const answered = exec(packets.subarray(start, start + partBytes)).then(
      (part) => {
        renumberPackets(part, 0, packetCount(part), first);
        answers.set(part, start);
      },
      (error: unknown) => {
        throw inFrame(error, first);
      },
    );
    parts.push(answered);
  }
  await Promise.all(parts);
  return answers;
}

/** An error about a packet of a part as one about that packet of the frame. */
function inFrame(error: unknown, first: number): unknown {
  if (!hasCode(error, PacketErrorCode.invalidPacket)) return error;
  const { index, reason = "invalid" } = error.data;
  return typeof index === "number" ? notExecutable(first + index, String(reason)) : error;
}

/** The answers, if they are `count` RETURN or FAULT packets, the i-th for the i-th EXEC. */
function requireAnswers(answers: Uint8Array, count: number): Uint8Array {
  if (answers.byteLength !== count * PACKET_BYTES) throw invalid("did not answer each packet once");
  let wrong = wrongAnswerAt(answers);
  for (let index = 0; wrong < 0 && index < count; index++) if (atOf(answers, index) !== index) wrong = index;
  if (wrong >= 0) throw invalid(`answered packet ${wrong} with something else`);
  return answers;
}

function invalid(what: string): WireError {
  return new WireError(WireErrorCode.messageInvalid, `the hub ${what}`, { reason: what });
}
