/**
 * Clients that put, get and run all the time while their hub is started again and a node comes and goes: whatever they are
 * told is right or an error with a code, and afterwards nothing of it all stays.
 */
import { mkdirSync, readdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { CACHE_WRITER_IDLE_MS } from "../../nodes/limits.ts";
import { connect, PacketfsError } from "../../sdk/index.ts";
import type { PacketFS } from "../../sdk/index.ts";
import { temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import { joinNode, startHub } from "./daemon.ts";
import type { Daemon } from "./daemon.ts";
import { descriptorKinds, expectBack, expectNoneMore, holdingsOf } from "./holdings.ts";
import type { Descriptors, Holdings } from "./holdings.ts";
import { bytesOf, noise, numbers, sha256 } from "./inputs.ts";
import { INSPECTED } from "./inspector.ts";
import { HAS_PROC } from "../suites/processes.ts";

const CLIENTS = Number(process.env["PACKETFS_TEST_CLIENTS"] ?? 5);
const SECONDS = Number(process.env["PACKETFS_TEST_SECONDS"] ?? 8);
/** A hub or a node goes after each of the first four eighths. */
const PART_MS: number = (SECONDS * 1000) / 8;
const IS_LONG: boolean = SECONDS >= 120;
const SEED = Number(process.env["PACKETFS_TEST_SEED"] ?? 20_261_126);
const NAMES_PER_CLIENT = 3;
const LINES_MAX = 4_000;
/** One file in so many is larger than a chunk, and no text. */
const LARGE_EVERY = 10;
const LARGE_BYTES_MAX = 3_000_000;

const SUM = `import { defineProgram, lines } from "packetfs";
  export default defineProgram({ input: lines(), map: Number, combine: (a: number, b: number) => a + b });`;

/** What may be said while a hub or node is away, or goes just then. */
const INTERRUPTED = [
  "PFS_NODE_LOST",
  "PFS_NO_EXECUTOR",
  "PFS_PEER_UNREACHABLE",
  "PFS_REQUEST_TIMEOUT",
] as const;
/** And of bytes that are at that node alone. */
const AWAY = [...INTERRUPTED, "PFS_CHUNK_MISSING", "PFS_INPUT_MISSING"] as const;
/** A link to the other node, which a short run may not have seen one of them dial before: at the dialer, or at the port. */
const NODE_LINK: Descriptors = { "socket:[…]": 3, "anon_inode:[eventfd]": 3 };
/** One client in so many has its bytes at the node that goes. */
const AT_NODE_EVERY = 5;

interface Version {
  readonly hash: string;
  /** Of its numbers, where it is text. */
  readonly sum: number | undefined;
}

/** What somebody may find under a name: more than one version after a put of which nobody knows what came. */
type Possible = (Version | "nothing")[];

class ChurningClient {
  readonly #pfs: PacketFS;
  readonly #id: number;
  readonly #next: () => number;
  readonly #names: ReadonlyMap<string, { possible: Possible }>;
  readonly #codes: readonly string[];
  readonly #counts: Map<string, number>;

  /** `codes` are those of errors that it may be told. */
  constructor(pfs: PacketFS, id: number, codes: readonly string[], counts: Map<string, number>) {
    this.#codes = codes;
    this.#pfs = pfs;
    this.#id = id;
    this.#counts = counts;
    this.#next = numbers(SEED + id * 7919);
    const names = Array.from({ length: NAMES_PER_CLIENT }, (_, index) => `${id}/${index}`);
    this.#names = new Map(names.map((name) => [name, { possible: ["nothing"] }]));
  }

  /** One operation after the other, until it is over. */
  async churn(isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      const name = `${this.#id}/${this.#next() % NAMES_PER_CLIENT}`;
      const operation = (["put", "get", "run"] as const)[this.#next() % 3]!;
      await this.#counted(operation, () => this.#do(operation, name));
    }
  }

  /** Everything is there that must be, and then nothing is. */
  async finish(): Promise<void> {
    for (const [name, file] of this.#names) {
      // A put at a node of which nobody knows what came may have left its bytes there, until there is another.
      if (file.possible.length > 1) await this.#put(name);
      await this.#get(name);
      if (file.possible.includes("nothing")) await this.#pfs.remove(name).catch(expectNotFound);
      else await this.#pfs.remove(name);
      file.possible = ["nothing"];
    }
  }

  async #counted(operation: string, work: () => Promise<string>): Promise<void> {
    const what = await work().catch(async (error: unknown) => {
      if (!(error instanceof PacketfsError) || !this.#codes.includes(error.code)) throw error;
      // What is refused at once leaves no turn to those who would end this.
      await sleep(1);
      return error.code;
    });
    const key = `${operation} ${what}`;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }

  #do(operation: "put" | "get" | "run", name: string): Promise<string> {
    if (operation === "put") return this.#put(name);
    return operation === "get" ? this.#get(name) : this.#run(name);
  }

  async #put(name: string): Promise<string> {
    const { bytes, sum } = this.#make();
    const version: Version = { hash: sha256(bytes), sum };
    const file = this.#names.get(name)!;
    const before = file.possible;
    file.possible = [...before, version];
    await this.#pfs.put(bytes, { name });
    file.possible = [version];
    return "right";
  }

  async #get(name: string): Promise<string> {
    const { possible } = this.#names.get(name)!;
    try {
      const hash = sha256(await bytesOf(this.#pfs, name));
      expect(possible.map((one) => (one === "nothing" ? one : one.hash))).toContain(hash);
    } catch (error) {
      if (!possible.includes("nothing")) throw error;
      expectNotFound(error);
    }
    return "right";
  }

  async #run(name: string): Promise<string> {
    const { possible } = this.#names.get(name)!;
    const texts = possible.filter((one) => one !== "nothing" && one.sum !== undefined);
    if (texts.length < possible.length) return await this.#get(name);
    const { value } = await this.#pfs.run({ source: SUM }, [name]);
    expect(texts.map((one) => (one as Version).sum)).toContain(value);
    return "right";
  }

  #make(): { readonly bytes: Buffer; readonly sum: number | undefined } {
    const draw = this.#next();
    if (draw % LARGE_EVERY === 0) return { bytes: noise(1 + (draw % LARGE_BYTES_MAX), draw), sum: undefined };
    const values = Array.from({ length: 1 + (draw % LINES_MAX) }, () => this.#next() % 1_000_000);
    return {
      bytes: Buffer.from(values.map((value) => `${value}\n`).join("")),
      sum: values.reduce((sum, value) => sum + value, 0),
    };
  }
}

function expectAllBack(after: Record<string, Holdings>, base: Record<string, Holdings>): void {
  for (const who of Object.keys(base)) {
    const more = IS_LONG || who === "hub" ? {} : NODE_LINK;
    expectBack(who, after[who]!, base[who]!, { hasRunForLong: IS_LONG, more });
  }
}

function expectNotFound(error: unknown): void {
  if (!(error instanceof PacketfsError) || error.code !== "PFS_NOT_FOUND") throw error;
}

it.skipIf(!HAS_PROC)(
  `${CLIENTS} clients for ${SECONDS} s beside a hub that is started again and a node that goes twice`,
  async () => {
    const place = await temporaryDirectory();
    const temporary = join(place, "tmp");
    mkdirSync(temporary);
    const wrapper = [...INSPECTED, `TMPDIR=${temporary}`];
    const stores = {
      hub: join(place, "hub"),
      steady: join(place, "steady"),
      unsteady: join(place, "unsteady"),
    };
    let hub = await startHub({ store: stores.hub, wrapper });
    const { address, clientToken, joinToken } = hub;
    const joinUnder = (label: "steady" | "unsteady"): Promise<Daemon> =>
      joinNode(joinToken, label, { store: stores[label], wrapper });
    const steady = await joinUnder("steady");
    let unsteady = await joinUnder("unsteady");
    const counts = new Map<string, number>();
    const isAtNode = (id: number): boolean => id % AT_NODE_EVERY === AT_NODE_EVERY - 1;
    const connections = await Promise.all(
      Array.from({ length: CLIENTS }, (_, id) =>
        connect(clientToken, isAtNode(id) ? { node: "unsteady" } : {}),
      ),
    );
    const clients = connections.map(
      (pfs, id) => new ChurningClient(pfs, id, isAtNode(id) ? AWAY : INTERRUPTED, counts),
    );
    const [first] = connections as [PacketFS];

    const churn = async (isOver: () => boolean): Promise<void> => {
      await Promise.all(clients.map((client) => client.churn(isOver)));
    };
    const look = async (): Promise<Record<string, Holdings>> => {
      await Promise.all(clients.map((client) => client.finish()));
      expect(await first.verify()).toMatchObject({ damaged: [], incomplete: [], unreachable: [] });
      // What nodes keep for the jobs of the last seconds is free then.
      await sleep(CACHE_WRITER_IDLE_MS + 1_000);
      await first.gc();
      return {
        hub: await holdingsOf(hub, stores.hub),
        steady: await holdingsOf(steady, stores.steady),
        unsteady: await holdingsOf(unsteady, stores.unsteady),
      };
    };
    const report = (what: string, value: object): void => console.log(what, JSON.stringify(value));

    const restartHub = async (signal: NodeJS.Signals): Promise<void> => {
      await hub.end(signal);
      hub = await startHub({ store: stores.hub, address, wrapper });
    };
    const restartNode = async (signal: NodeJS.Signals): Promise<void> => {
      await unsteady.end(signal);
      await sleep(PART_MS / 2);
      unsteady = await joinUnder("unsteady");
    };
    const churnBeside = async (trouble: readonly (() => Promise<void>)[], calmMs: number): Promise<void> => {
      let isOver = false;
      const troubled = async (): Promise<void> => {
        for (const strike of trouble) {
          await sleep(PART_MS);
          await strike();
        }
        await sleep(calmMs);
      };
      await Promise.all([churn(() => isOver), troubled().finally(() => (isOver = true))]);
    };

    // The base is what a hub and a node hold that have seen all of this once.
    await churnBeside([() => restartHub("SIGTERM"), () => restartNode("SIGTERM")], 2 * PART_MS);
    const base = { daemons: await look(), clients: descriptorKinds(process.pid) };
    report("base", base);
    report("before", Object.fromEntries(counts));
    counts.clear();
    const trouble = (["SIGTERM", "SIGKILL"] as const).flatMap((signal) => [
      () => restartHub(signal),
      () => restartNode(signal),
    ]);
    await churnBeside(trouble, 4 * PART_MS);
    report("meanwhile", Object.fromEntries(counts));
    let after = { daemons: await look(), clients: descriptorKinds(process.pid) };
    report("after", after);
    expectAllBack(after.daemons, base.daemons);
    if (IS_LONG) {
      // The hub and one node are other processes than they were. Their memory is compared with their own.
      const before = after;
      await churnBeside([], 4 * PART_MS);
      after = { daemons: await look(), clients: descriptorKinds(process.pid) };
      report("after more of it", after);
      expectAllBack(after.daemons, before.daemons);
    }
    expectNoneMore("the clients", after.clients, base.clients);
    expect(readdirSync(temporary)).toEqual([]);
    for (const one of connections) await one.close();
    for (const daemon of [unsteady, steady, hub]) {
      expect(await daemon.end("SIGTERM")).toEqual({ status: 0, signal: null });
    }
  },
  600_000 + SECONDS * 10_000,
);
