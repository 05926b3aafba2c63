/**
 * Answers libzmq's question whether a key may connect: the ZAP handler (ZeroMQ RFC 27) of one context. It admits a CURVE key
 * that the allow list has and nothing else, and of those only the candidate (see `Admissions`). Ports of the context
 * are open only while it lives.
 */
import { Reply } from "zeromq";
import type { Context } from "zeromq";
import { CONNECTIONS_MAX, CONNECTIONS_PER_KEY_MAX } from "../../limits.ts";
import type { AllowList } from "../trust/allow-list.ts";
import { KEY_BYTES, keyToHex } from "../trust/keys.ts";
import type { Admissions } from "./admissions.ts";
import type { RefusalOfConnection } from "./events.ts";

const ZAP_ENDPOINT = "inproc://zeromq.zap.01";
export const ZAP_DOMAIN = "packetfs";

export interface AuthenticatorOptions {
  readonly context: Context;
  readonly allowList: AllowList;
  readonly admissions: Admissions;
  /** How many connections a key has, and how many there are. */
  readonly connections: (curveKey: string) => { readonly ofKey: number; readonly all: number };
  /** Milliseconds for which a key is kept out at an address, 0 when it is not. */
  readonly pauseOf: (curveKey: string, address: string) => number;
  readonly onRefusal: (refusal: RefusalOfConnection) => void;
}

const REFUSED_KEPT = 64;
/** How libzmq names the process at the other end of a local socket, where the system says which it is. */
const PEER_PROCESS = /^:\d+:\d+:(\d+)$/;

export class Authenticator {
  /** Resolves when it has ended, for whatever reason. From then on its context's ports must be closed. */
  readonly ended: Promise<void>;
  readonly #options: AuthenticatorOptions;
  readonly #socket: Reply;
  readonly #refused = new Set<string>();
  /** Keys of the port's own check: its own, and a stranger's that nobody else has. */
  readonly #probes = new Set<string>();
  #only: Uint8Array | undefined;

  private constructor(options: AuthenticatorOptions, socket: Reply) {
    this.#options = options;
    this.#socket = socket;
    this.ended = this.#run();
  }

  /** It answers from then on. */
  static start(options: AuthenticatorOptions): Authenticator {
    const socket = new Reply({ context: options.context, linger: 0 });
    socket.bindSync(ZAP_ENDPOINT);
    return new Authenticator(options, socket);
  }

  /** Whether this key was among the last ones that were refused. */
  hasRefused(curveKey: Uint8Array): boolean {
    return this.#refused.has(keyToHex(curveKey));
  }

  /** Admits this key alone until `admitListed`. */
  admitOnly(curveKey: Uint8Array): void {
    this.#only = curveKey;
  }

  admitListed(): void {
    this.#only = undefined;
  }

  close(): void {
    this.#socket.close();
  }

  async #run(): Promise<void> {
    try {
      for (;;) {
        const request = await this.#socket.receive();
        await this.#socket.send(answer(request, (await this.#admits(request)) ? "200" : "400"));
      }
    } catch {
      // A closed or broken socket ends the task; `ended` says so to whoever must close the ports.
    } finally {
      this.#socket.close();
    }
  }

  async #admits(request: readonly Uint8Array[]): Promise<boolean> {
    const [version, , , from, , mechanism, credentials] = request;
    if (text(version) !== "1.0" || text(mechanism) !== "CURVE" || credentials?.byteLength !== KEY_BYTES) {
      return this.#refuse("", "foreign");
    }
    const key = keyToHex(credentials);
    const { admissions, allowList, connections, pauseOf } = this.#options;
    if (this.#only !== undefined) {
      this.#probes.add(key);
      if (Buffer.compare(credentials, this.#only) !== 0) return this.#noteRefused(key);
      admissions.expect({ curveKey: this.#only, entry: undefined, address: "" });
      return true;
    }
    // The port's check may still be knocking when it is over. That is no news, and no candidate.
    if (this.#probes.has(key)) return this.#noteRefused(key);
    // Whoever did not come through the proxy is somebody on this machine who goes around it.
    const pid = PEER_PROCESS.exec(text(from))?.[1];
    if (pid !== undefined && Number(pid) !== process.pid) return this.#refuse(key, "unexpected");
    // The proxy has said who the candidate is, but that may be on its way.
    const candidate = await admissions.candidateCame();
    const entry = await allowList.lookUp(credentials);
    if (entry === undefined)
      return this.#refuse(key, "unknown-key", { label: allowList.removedLabel(credentials) });
    const { ofKey, all } = connections(key);
    if (ofKey >= CONNECTIONS_PER_KEY_MAX || all >= CONNECTIONS_MAX)
      return this.#refuse(key, "full", { id: entry.id });
    if (pauseOf(key, candidate.address) > 0) return this.#refuse(key, "paused", { id: entry.id });
    admissions.expect({ curveKey: entry.curveKey, entry, address: candidate.address });
    return true;
  }

  #refuse(
    curveKey: string,
    reason: RefusalOfConnection["reason"],
    { id = "", label }: { readonly id?: string; readonly label?: string | undefined } = {},
  ): false {
    const address = this.#options.admissions.candidate?.address ?? "";
    this.#options.onRefusal({ curveKey, id, label, address, reason });
    return this.#noteRefused(curveKey);
  }

  #noteRefused(curveKey: string): false {
    this.#refused.add(curveKey);
    if (this.#refused.size > REFUSED_KEPT) this.#refused.delete(this.#refused.values().next().value!);
    return false;
  }
}

function answer(request: readonly Uint8Array[], status: "200" | "400"): (string | Uint8Array)[] {
  const [version = "1.0", requestId = ""] = request;
  return [version, requestId, status, status === "200" ? "OK" : "not let in", "", ""];
}

function text(bytes: Uint8Array | undefined): string {
  return bytes === undefined ? "" : Buffer.from(bytes).toString("latin1");
}
