/** Node's inspector of another process: has it collect its garbage, so that what is left is what it holds. */
import type { Daemon } from "./daemon.ts";

/**
 * A command before the one that starts a process: that process can be inspected. Its threads share one arena, since what glibc
 * keeps in one for each hides by its size and by chance what a process really holds.
 */
export const INSPECTED: readonly string[] = [
  "env",
  "NODE_OPTIONS=--inspect=127.0.0.1:0",
  "MALLOC_ARENA_MAX=1",
];

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: { readonly sessionId: string; readonly message?: string };
  readonly result?: object;
  readonly error?: { readonly message: string };
}

interface HeapUsage {
  readonly usedSize: number;
  readonly backingStorageSize: number;
}

export class Inspector implements Disposable {
  readonly #socket: WebSocket;
  readonly #workers = new Set<string>();
  readonly #answered = new Map<number, (answer: Message) => void>();
  #lastId = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener("message", ({ data }) => this.#take(String(data)));
    socket.addEventListener("close", () => {
      const error = { message: "the process ended" };
      for (const answered of this.#answered.values()) answered({ error });
    });
  }

  /** Of a process that was started behind INSPECTED. */
  static async of(daemon: Daemon): Promise<Inspector> {
    const pattern = /Debugger listening on (ws:\S+)/;
    await daemon.says(pattern);
    const socket = new WebSocket(pattern.exec(daemon.said)![1]!);
    await new Promise((resolve, reject) => {
      socket.addEventListener("open", resolve);
      socket.addEventListener("error", reject);
    });
    const inspector = new Inspector(socket);
    await inspector.#ask("NodeWorker.enable", { waitForDebuggerOnStart: false });
    return inspector;
  }

  /** Collects the garbage of all its threads; bytes of what is left, objects and buffers. */
  async collectGarbage(): Promise<number> {
    let bytes = 0;
    for (const thread of [undefined, ...this.#workers]) {
      await this.#ask("HeapProfiler.collectGarbage", {}, thread);
      const usage = (await this.#ask("Runtime.getHeapUsage", {}, thread)) as HeapUsage;
      bytes += usage.usedSize + usage.backingStorageSize;
    }
    return bytes;
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }

  /** Of the main thread, or of a worker's session. */
  async #ask(method: string, params: object = {}, worker?: string): Promise<object> {
    const id = ++this.#lastId;
    const answer = new Promise<Message>((resolve) => this.#answered.set(id, resolve));
    const message = JSON.stringify({ id, method, params });
    if (worker === undefined) this.#socket.send(message);
    else await this.#ask("NodeWorker.sendMessageToWorker", { sessionId: worker, message });
    const { result, error } = await answer;
    if (error !== undefined) throw new Error(`${method}: ${error.message}`);
    return result!;
  }

  #take(text: string): void {
    const message = JSON.parse(text) as Message;
    const { id, method, params } = message;
    if (id !== undefined) {
      this.#answered.get(id)?.(message);
      this.#answered.delete(id);
    } else if (method === "NodeWorker.attachedToWorker") this.#workers.add(params!.sessionId);
    else if (method === "NodeWorker.detachedFromWorker") this.#workers.delete(params!.sessionId);
    else if (method === "NodeWorker.receivedMessageFromWorker") this.#take(params!.message!);
  }
}
