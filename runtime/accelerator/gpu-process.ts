/**
 * A GPU process, as the node uses it: started with next to no environment, told what to do over a pipe, believed nothing,
 * and killed when it is to end.
 *
 *   starting ──▶ ready ──▶ ended: killed here | lost (from outside, by a crash, by its driver) | strange
 */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { closeSync } from "node:fs";
import type { Socket } from "node:net";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { messageOf } from "../../packets/errors.ts";
import { builtUrl } from "../built.ts";
import { systemCode } from "../errors.ts";
import { EXECUTOR_STDERR_BYTES } from "../limits.ts";
import { GpuWall, landlocked, wallsHere } from "./gpu-walls.ts";
import type { GpuWalls } from "./gpu-walls.ts";
import { openWindow } from "./output-window.ts";
import {
  GPU_CONTROL_DESCRIPTOR,
  GPU_PIPE_DESCRIPTOR,
  encodeFrame,
  parseProcessMessage,
  readFrames,
} from "./protocol.ts";
import type {
  AbsentMessage,
  CalibratedMessage,
  ControlMessage,
  GpuProcessOptions,
  NodeMessage,
  ProcessMessage,
  ReadyMessage,
  VerifiedMessage,
} from "./protocol.ts";

/** Where drivers are, and how many threads those that imitate a GPU may have; nothing else of ours is of their business. */
const ENVIRONMENT: readonly string[] = [
  "LD_LIBRARY_PATH",
  "LP_NUM_THREADS",
  "SystemRoot",
  "VK_ADD_DRIVER_FILES",
  "VK_DRIVER_FILES",
  "VK_ICD_FILENAMES",
];
/** Compiled kernels of strangers are kept nowhere. */
const NO_CACHES = { MESA_SHADER_CACHE_DISABLE: "true", __GL_SHADER_DISK_CACHE: "0" };

/** The system's OpenSSL configuration is refused, which is an error; one that is not there is none. */
const NODE_FLAGS: readonly string[] = ["--no-warnings", "--openssl-config=/proc/self/none"];

/** How a process ended. */
export interface GpuProcessEnd {
  /** For people. */
  readonly reason: string;
  /** Whether it ended by what it did itself: its driver, or its device, gave up. Who killed it from outside says nothing of that. */
  readonly isCrash: boolean;
}

export interface StartedGpuProcess {
  readonly process: GpuProcess;
  readonly ready: ReadyMessage;
  /** Those around it. */
  readonly walls: readonly GpuWall[];
}

export interface StartOptions {
  readonly reads?: readonly string[] | undefined;
  readonly main?: string | undefined;
  /** Of the names of all adapters, the one to open: asked of one that lists them, again where it starts again. Undefined: none of them. */
  readonly choose?: ((names: readonly string[]) => string | undefined) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Those around processes that have started last. */
let standing: readonly GpuWall[] | undefined;

/** The walls around this machine's GPU processes; undefined until one has started. */
export function standingGpuWalls(): readonly GpuWall[] | undefined {
  return standing;
}

/** Adapters of this machine that were found to work without Landlock only. */
const landlockRefusedBy = new Set<string>();

export class GpuProcess {
  /** Resolves when it is gone. Never rejects. */
  readonly ended: Promise<GpuProcessEnd>;
  /** Called with what it says once it is ready. */
  onMessage: (message: ProcessMessage, body: Uint8Array<ArrayBuffer>) => void = () => undefined;
  readonly #child: ChildProcess;
  readonly #pipe: Socket;
  readonly #control: Socket;
  readonly #window: number | undefined;
  #windowUses = 0;
  #sending: Promise<void> = Promise.resolve();
  #lost: string | undefined;
  #isEnded = false;
  #isKilled = false;

  private constructor(child: ChildProcess, window: number | undefined) {
    this.#child = child;
    this.#window = window;
    this.#pipe = child.stdio[GPU_PIPE_DESCRIPTOR] as Socket;
    this.#control = child.stdio[GPU_CONTROL_DESCRIPTOR] as Socket;
    for (const pipe of [this.#pipe, this.#control]) pipe.on("error", () => undefined);
    const { promise, resolve } = Promise.withResolvers<GpuProcessEnd>();
    this.ended = promise;
    let said = "";
    child.stderr?.on("data", (text: Buffer) => {
      said = (said + text.toString("latin1")).slice(-EXECUTOR_STDERR_BYTES);
    });
    child.on("error", (error) => this.#settle(resolve, { reason: error.message, isCrash: false }));
    child.on("close", (code, signal) => {
      const words = said.trim().split("\n").at(-1) ?? "";
      const how = signal === null ? `it ended with code ${code}` : `it was ended by ${signal}`;
      const reason = this.#lost ?? (words === "" ? how : `${how}: ${words}`);
      const isCrash = !this.#isKilled && (this.#lost !== undefined || !isKill(signal));
      this.#settle(resolve, { reason, isCrash });
    });
  }

  /**
   * What came of it: an adapter that takes calls, or why there is none. `reads` are folders with chunks that it reads itself; `main`
   * is another's in tests. Rejects with the signal's reason.
   */
  static async start(
    options: GpuProcessOptions,
    { reads = [], main = mainPath(), choose, signal }: StartOptions = {},
  ): Promise<StartedGpuProcess | AbsentMessage> {
    signal?.throwIfAborted();
    let { adapter = "" } = options;
    const remembering = (names: readonly string[]): string | undefined => {
      const chosen = choose?.(names);
      adapter = chosen ?? adapter;
      return chosen;
    };
    const how = { main, choose: remembering, signal };
    const weaker = await wallsHere();
    const restricted = landlockRefusedBy.has(adapter) ? undefined : landlocked(main, reads);
    if (restricted === undefined) return await GpuProcess.#start(options, weaker, how);
    const { words, names } = weaker;
    const walls = { words: [...words, ...restricted], names: [...names, GpuWall.files] };
    const started = await GpuProcess.#start(options, walls, how);
    if (!("kind" in started) || started.why === "software" || started.why === "unwanted") return started;
    const other = await GpuProcess.#start(options, weaker, how);
    if (!("kind" in other)) landlockRefusedBy.add(adapter);
    return other;
  }

  static async #start(
    options: GpuProcessOptions,
    { words, names }: GpuWalls,
    { main = mainPath(), choose, signal }: StartOptions,
  ): Promise<StartedGpuProcess | AbsentMessage> {
    signal?.throwIfAborted();
    const window = options.computes ? openWindow() : undefined;
    const given = JSON.stringify({ ...options, hasWindow: window !== undefined });
    const [command, ...args] = [...words, process.execPath, ...NODE_FLAGS, main, given];
    const child = spawn(command!, args, {
      cwd: dirname(main),
      env: environment(),
      stdio: ["ignore", "ignore", "pipe", "pipe", "pipe", window ?? "ignore"],
      // In a group of its own: Ctrl-C is for the node to deal with.
      detached: process.platform !== "win32",
      windowsHide: true,
    });
    const gpu = new GpuProcess(child, window);
    const abort = (): void => gpu.kill();
    signal?.addEventListener("abort", abort, { once: true });
    const started = await gpu.#untilReady(choose);
    signal?.removeEventListener("abort", abort);
    if (signal?.aborted === true) gpu.kill();
    signal?.throwIfAborted();
    if ("kind" in started) return started;
    standing = names;
    return { process: gpu, ready: started.ready, walls: names };
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** What it measures of its adapter, before it has calls; undefined where it ends meanwhile. */
  async calibrate(): Promise<CalibratedMessage | undefined> {
    return await this.#answer("calibrate", "calibrated");
  }

  /** Whether its adapter computes right, as `calibrate` finds out too, and no more than that. */
  async verify(): Promise<VerifiedMessage | undefined> {
    return await this.#answer("verify", "verified");
  }

  async #answer<Kind extends "calibrated" | "verified">(
    question: "calibrate" | "verify",
    kind: Kind,
  ): Promise<Extract<ProcessMessage, { readonly kind: Kind }> | undefined> {
    type Answer = Extract<ProcessMessage, { readonly kind: Kind }>;
    const { promise, resolve } = Promise.withResolvers<Answer | undefined>();
    this.onMessage = (message) => {
      if (message.kind === kind) resolve(message as Answer);
    };
    void this.ended.then(() => resolve(undefined));
    void this.send([{ message: { kind: question } }]);
    return await promise;
  }

  /** Resolves when it was taken, or nobody takes it any more. What is sent in one call comes together, its body unchanged till then. */
  async send(messages: AsyncIterable<SentMessage> | Iterable<SentMessage>): Promise<void> {
    const before = this.#sending;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#sending = promise;
    await before;
    try {
      for await (const { message, body } of messages) await this.#write(encodeFrame(message, body));
    } finally {
      resolve();
    }
  }

  /** Where it puts large outputs, to be read there until that is over; undefined where there is no such thing. */
  useWindow(): number | undefined {
    if (this.#window === undefined || this.#isEnded) return undefined;
    this.#windowUses++;
    return this.#window;
  }

  /** What stood there is read. */
  freeWindow(at: number): void {
    this.#windowUses--;
    this.tell({ kind: "free", at });
    this.#closeWindow();
  }

  #closeWindow(): void {
    if (this.#window !== undefined && this.#isEnded && this.#windowUses === 0) closeSync(this.#window);
  }

  /** Says it at once, whatever else is being sent. */
  tell(message: ControlMessage): void {
    if (this.#control.writable) for (const part of encodeFrame(message)) this.#control.write(part);
  }

  /** Whatever it does. Its GPU may be busy for seconds more, and the process not gone until then. */
  kill(): void {
    this.#isKilled = true;
    this.#end();
  }

  /** It said what it cannot have to say: what it computes may have taken it over. */
  distrust(reason: string): void {
    this.#lost ??= reason;
    this.#end();
  }

  /** Whether it has not taken yet what was written to it. */
  get isFull(): boolean {
    return this.#pipe.writableNeedDrain;
  }

  /** As it is, without a word: it lasts no longer than this process does. */
  unref(): void {
    this.#child.unref();
    (this.#child.stderr as Socket | null)?.unref();
    this.#pipe.unref();
    this.#control.unref();
  }

  ref(): void {
    this.#child.ref();
    this.#pipe.ref();
  }

  #end(): void {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill("SIGKILL");
    this.#pipe.destroy();
    this.#control.destroy();
  }

  #settle(resolve: (end: GpuProcessEnd) => void, end: GpuProcessEnd): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#closeWindow();
    resolve(end);
  }

  async #write(parts: readonly Uint8Array[]): Promise<void> {
    let isFull = false;
    for (const part of parts) {
      if (!this.#pipe.writable) return;
      isFull = !this.#pipe.write(part);
    }
    if (!isFull) return;
    await new Promise<void>((resolve) => {
      const settle = (): void => {
        this.#pipe.off("drain", settle).off("close", settle);
        resolve();
      };
      this.#pipe.on("drain", settle).on("close", settle);
    });
  }

  #untilReady(choose: StartOptions["choose"]): Promise<{ readonly ready: ReadyMessage } | AbsentMessage> {
    const { promise, resolve } = Promise.withResolvers<{ readonly ready: ReadyMessage } | AbsentMessage>();
    this.onMessage = (message) => {
      if (message.kind === "absent") resolve(message);
      else if (message.kind === "ready") resolve({ ready: message });
      else if (message.kind === "adapters") {
        const adapter = choose?.(message.names);
        if (adapter !== undefined) return void this.send([{ message: { kind: "open", adapter } }]);
        resolve({ kind: "absent", why: "unwanted", reason: "none of them is wanted" });
        this.kill();
      }
    };
    void this.ended.then(({ reason }) => resolve({ kind: "absent", why: "device", reason }));
    void this.#listen();
    return promise;
  }

  async #listen(): Promise<void> {
    try {
      for await (const { message, body } of readFrames(this.#pipe)) {
        const known = parseProcessMessage(message);
        if (known === undefined) throw new Error("it says what no GPU process says");
        if (known.kind === "lost") this.#lost = known.reason;
        else this.onMessage(known, body);
      }
    } catch (error) {
      // The pipe of a process that is killed may break: that says nothing of what it did.
      if (systemCode(error) === "") this.#lost ??= messageOf(error);
    }
    // Whoever says no more is of no use.
    this.#end();
  }
}

export interface SentMessage {
  readonly message: NodeMessage;
  readonly body?: Uint8Array | undefined;
}

function mainPath(): string {
  return fileURLToPath(builtUrl(new URL("./device/gpu-main.ts", import.meta.url)));
}

function isKill(signal: NodeJS.Signals | null): boolean {
  return signal === "SIGKILL" || signal === "SIGTERM" || signal === "SIGINT" || signal === "SIGHUP";
}

function environment(): NodeJS.ProcessEnv {
  const own = ENVIRONMENT.map((name) => [name, process.env[name]] as const);
  return { ...NO_CACHES, ...Object.fromEntries(own.filter(([, value]) => value !== undefined)) };
}
