/**
 * The connections of a port: whose key each has, and whether one is a flood. ZeroMQ hands over whole messages only, and
 * bounds the size of a part but not the number of parts; so a peer may send parts without end, which fill memory unseen.
 * While it does, it can say nothing else: a connection is a flood when memory has grown much since it was last heard, and
 * it does not answer a question either.
 */
import { FLOOD_ANSWER_MS, FLOOD_BYTES, FLOOD_SILENCE_MS } from "../../limits.ts";
import type { Admission } from "./authenticator.ts";

interface Connection {
  readonly admission: Admission | undefined;
  readonly key: string;
  heardAt: number;
  /** Bytes of memory when it was last heard. */
  memory: number;
  /** When it was asked whether it still answers. */
  askedAt: number | undefined;
}

export interface ConnectionsOptions {
  /** Bytes of this process that JavaScript does not know of. */
  readonly memory: () => number;
  readonly now: () => number;
}

export class Connections {
  readonly #options: ConnectionsOptions;
  readonly #byName = new Map<string, Connection>();
  readonly #countOfKey = new Map<string, number>();
  #memory: number;
  #now: number;

  constructor(options: ConnectionsOptions) {
    this.#options = options;
    this.#memory = options.memory();
    this.#now = options.now();
  }

  get size(): number {
    return this.#byName.size;
  }

  /** How many connections a CURVE key (64 hexadecimal digits) has. */
  countOf(key: string): number {
    return this.#countOfKey.get(key) ?? 0;
  }

  add(name: string, admission: Admission | undefined): void {
    const key = admission === undefined ? "" : Buffer.from(admission.curveKey).toString("hex");
    const heardAt = this.#options.now();
    this.#byName.set(name, { admission, key, heardAt, memory: this.#memory, askedAt: undefined });
    this.#count(key, 1);
  }

  /** Notes that a connection has said something. Whether there is such a connection. */
  hear(name: string): boolean {
    const connection = this.#byName.get(name);
    if (connection === undefined) return false;
    // As of the last look: the clock and memory are not worth asking for at every message.
    connection.heardAt = this.#now;
    connection.memory = this.#memory;
    connection.askedAt = undefined;
    return true;
  }

  remove(name: string): void {
    const connection = this.#byName.get(name);
    if (connection === undefined) return;
    this.#byName.delete(name);
    this.#count(connection.key, -1);
  }

  clear(): void {
    this.#byName.clear();
    this.#countOfKey.clear();
  }

  /** Looks for floods; to be called every TICK_MS. `ask` makes a connection say something if it can. */
  findFlood(ask: (name: string) => void): Admission | undefined {
    const now = this.#options.now();
    const memory = this.#options.memory();
    const stoodStill = now - this.#now > FLOOD_SILENCE_MS;
    this.#now = now;
    this.#memory = memory;
    // What came while this process stood still is still to be read.
    if (stoodStill) return undefined;
    for (const [name, connection] of this.#byName) {
      if (now - connection.heardAt < FLOOD_SILENCE_MS || memory - connection.memory < FLOOD_BYTES) continue;
      if (connection.askedAt === undefined) {
        connection.askedAt = now;
        ask(name);
      } else if (now - connection.askedAt > FLOOD_ANSWER_MS && connection.admission?.entry !== undefined) {
        return connection.admission;
      }
    }
    return undefined;
  }

  #count(key: string, difference: number): void {
    const count = this.countOf(key) + difference;
    if (count === 0) this.#countOfKey.delete(key);
    else this.#countOfKey.set(key, count);
  }
}

/** Bytes that this process has and JavaScript does not know of: libzmq's, among others. */
export function nativeMemory(): number {
  const { rss, heapTotal, external } = process.memoryUsage();
  return rss - heapTotal - external;
}
