/**
 * A slow link, as a relay between ports of this machine: bytes of all its connections leave one after the other at its rate, and arrive
 * after its delay, both ways. What waits is bounded as a router's queue is. Connecting itself is not delayed, for nobody.
 */
import { once } from "node:events";
import { connect, createServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";

export interface LinkShape {
  /** Milliseconds, one way. */
  readonly delayMs: number;
  /** Bits a second, each way; as fast as it goes where there is none. */
  readonly bitsPerSecond?: number;
}

/** Bytes that wait before the sender is held back, beside those that are on their way. */
const QUEUE_BYTES_MAX = 512 * 1024;
/** What may be on its way where the link has no rate. */
const FLIGHT_BYTES_MAX = 64 * 1024 * 1024;

/** One direction of the link, which all connections share. */
class Direction {
  readonly #shape: LinkShape;
  /** When the last byte that was given to it has left. */
  #freeAt = 0;
  bytes = 0;

  constructor(shape: LinkShape) {
    this.#shape = shape;
  }

  carry(from: Socket, to: Socket): void {
    const { delayMs, bitsPerSecond } = this.#shape;
    const flight = bitsPerSecond === undefined ? FLIGHT_BYTES_MAX : (delayMs * bitsPerSecond) / 8000;
    const waitingMax = flight + QUEUE_BYTES_MAX;
    let waiting = 0;
    let last = Promise.resolve();
    const deliver = (at: number, whenThere: () => void): void => {
      last = last.then(async () => {
        await sleepUntil(at);
        whenThere();
      });
    };
    from.on("data", (bytes: Buffer) => {
      this.bytes += bytes.byteLength;
      waiting += bytes.byteLength;
      if (waiting > waitingMax) from.pause();
      deliver(this.#arrival(bytes.byteLength), () => {
        waiting -= bytes.byteLength;
        if (from.isPaused() && waiting <= waitingMax - QUEUE_BYTES_MAX / 2) from.resume();
        if (!to.destroyed) to.write(bytes);
      });
    });
    from.on("end", () => deliver(this.#arrival(0), () => to.end()));
    from.on("error", () => to.destroy());
    from.on("close", () => deliver(this.#arrival(0), () => to.destroySoon()));
  }

  #arrival(bytes: number): number {
    const { delayMs, bitsPerSecond } = this.#shape;
    const now = performance.now();
    const leaves = Math.max(now, this.#freeAt);
    this.#freeAt = bitsPerSecond === undefined ? leaves : leaves + (bytes * 8000) / bitsPerSecond;
    return this.#freeAt + delayMs;
  }
}

export class Relay implements AsyncDisposable {
  readonly #server: Server;
  readonly #up: Direction;
  readonly #down: Direction;
  readonly #sockets = new Set<Socket>();

  private constructor(port: number, shape: LinkShape) {
    this.#up = new Direction(shape);
    this.#down = new Direction(shape);
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
      const far = connect({ host: "127.0.0.1", port, allowHalfOpen: true, noDelay: true });
      for (const socket of [near, far]) {
        this.#sockets.add(socket);
        socket.once("close", () => this.#sockets.delete(socket));
      }
      this.#up.carry(near, far);
      this.#down.carry(far, near);
    });
  }

  /** Relays to a port of this machine. */
  static async to(port: number, shape: LinkShape): Promise<Relay> {
    const relay = new Relay(port, shape);
    relay.#server.listen(0, "127.0.0.1");
    await once(relay.#server, "listening");
    return relay;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** What was sent over it, both ways. */
  get bytes(): number {
    return this.#up.bytes + this.#down.bytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }
}

/** Timers come late, by a millisecond and more where the machine is busy: what is due by then goes with what comes. */
async function sleepUntil(at: number): Promise<void> {
  const wait = at - performance.now();
  if (wait >= 1) await new Promise((resolve) => setTimeout(resolve, wait));
}
