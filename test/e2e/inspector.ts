/** Node's inspector of another process: has it collect its garbage, so that what is left is what it holds. */
import type { Daemon } from "./daemon.ts";

/** A command before the one that starts a process: that process can be inspected. */
export const INSPECTED: readonly string[] = ["env", "NODE_OPTIONS=--inspect=127.0.0.1:0"];

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: { readonly sessionId: string; readonly message?: string };
  readonly error?: { readonly message: string };
}

export class Inspector implements Disposable {
  readonly #socket: WebSocket;
  readonly #workers = new Set<string>();
  readonly #answered = new Map<number, (error?: Error) => void>();
  #lastId = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener("message", ({ data }) => this.#take(String(data)));
    socket.addEventListener("close", () => {
      for (const answer of this.#answered.values()) answer(new Error("the process ended"));
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

  /** In all of its threads. */
  async collectGarbage(): Promise<void> {
    await this.#ask("HeapProfiler.collectGarbage");
    for (const sessionId of this.#workers) {
      const id = ++this.#lastId;
      const message = JSON.stringify({ id, method: "HeapProfiler.collectGarbage" });
      await this.#answer(id, () => this.#ask("NodeWorker.sendMessageToWorker", { sessionId, message }));
    }
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }

  async #ask(method: string, params: object = {}): Promise<void> {
    const id = ++this.#lastId;
    await this.#answer(id, () => this.#socket.send(JSON.stringify({ id, method, params })));
  }

  async #answer(id: number, send: () => void | Promise<void>): Promise<void> {
    const answer = Promise.withResolvers<void>();
    this.#answered.set(id, (error) => (error === undefined ? answer.resolve() : answer.reject(error)));
    await send();
    await answer.promise;
  }

  #take(text: string): void {
    const { id, method, params, error } = JSON.parse(text) as Message;
    if (id !== undefined) {
      this.#answered.get(id)?.(error === undefined ? undefined : new Error(error.message));
      this.#answered.delete(id);
    } else if (method === "NodeWorker.attachedToWorker") this.#workers.add(params!.sessionId);
    else if (method === "NodeWorker.detachedFromWorker") this.#workers.delete(params!.sessionId);
    else if (method === "NodeWorker.receivedMessageFromWorker") this.#take(params!.message!);
  }
}
