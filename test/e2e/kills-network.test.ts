/** A hub, a node, its executors and clients that are killed while all work together: see kills.ts. */
import type { ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { connect, openLocal, PacketfsError } from "../../sdk/index.ts";
import type { JobEvent, PacketFS } from "../../sdk/index.ts";
import { Random } from "../packets/seed.ts";
import { pfs, temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import { Acknowledged, REMOVED } from "../suites/acknowledged.ts";
import { until } from "../suites/until.ts";
import { joinNode, startHub } from "./daemon.ts";
import type { Daemon, HubDaemon } from "./daemon.ts";
import {
  contentBytes,
  contentOf,
  COUNT,
  ERA,
  filesBelow,
  HANGING_MS,
  KILLED_AT,
  KILLS,
  LINES,
  SEED,
  someContent,
  TEXT,
} from "./kills.ts";
import { Line } from "./line.ts";
import {
  HAS_PROC,
  descendantsOf,
  descriptorsOf,
  executorsOf,
  goneAll,
  processesOf,
  signalAll,
} from "../suites/processes.ts";

/** A hub that is started again on a busy machine takes its time. */
const PATIENT = { reconnectMs: 180_000 };
const LABEL = "node";
/** What the command line of an executor of this checkout has, and that of whatever encloses it. */
const CHECKOUT = fileURLToPath(new URL("../../", import.meta.url));
const EXECUTOR = [CHECKOUT, "executor-main"] as const;
/** What an operation may end with when somebody whom it needs is killed; what has others fails the storm. */
const LOST = /^PFS_(LINK_CLOSED|NODE_LOST|NO_EXECUTOR|PEER_UNREACHABLE)$/;

describe.skipIf(!HAS_PROC)("a hub, a node, its executors and clients that are killed", () => {
  const kills = Math.ceil((KILLS * 4) / 7);
  it(
    `${kills} times, have what was acknowledged, and leave nothing else`,
    { timeout: HANGING_MS },
    async ({ annotate }) => {
      const storm = await NetworkStorm.begin(new Random(SEED));
      try {
        let looked = 0;
        while (storm.kills < kills) {
          await storm.step();
          if (storm.kills - looked < ERA) continue;
          looked = storm.kills;
          await storm.look();
          await storm.start();
        }
        await storm.look();
      } finally {
        await annotate(storm.summary);
        await storm.close();
      }
    },
  );
});

type Victim = "hub" | "node" | "client" | "executor";
const VICTIMS: readonly Victim[] = ["hub", "node", "client", "executor"];
type Actor = "hub" | "node" | "jobs" | "upkeep";
/** Changes to its disk after which a process is killed, at most. */
const CHANGES = { hub: 120, node: 60, start: 60 } as const;

/** What must be as it was, when nobody does anything. */
interface Calm {
  readonly hubSockets: number;
  readonly nodeProcesses: number;
  readonly ownSockets: number;
}

class NetworkStorm {
  kills = 0;
  readonly #random: Random;
  readonly #cwd: string;
  readonly #acknowledged = new Acknowledged();
  readonly #counts = new Map<string, number>();
  readonly #got = new Map<string, readonly Buffer[]>();
  #when = "the beginning";
  #steps = 0;
  #hub!: HubDaemon;
  #node!: Daemon;
  /** From before the first kill to after the last one. */
  #client!: PacketFS;
  #near!: PacketFS;
  #line!: Line;
  #calm: Calm | undefined;
  #files: Readonly<Record<"hub" | "node", readonly string[]>> | undefined;

  private constructor(random: Random, cwd: string) {
    this.#random = random;
    this.#cwd = cwd;
  }

  static async begin(random: Random): Promise<NetworkStorm> {
    const storm = new NetworkStorm(random, await temporaryDirectory());
    for (const directory of ["in", "out", "tmp"]) mkdirSync(join(storm.#cwd, directory));
    writeFileSync(join(storm.#cwd, "count.ts"), COUNT);
    await storm.start();
    storm.#line = await Line.to(storm.#hub.address);
    storm.#client = await connect(storm.#hub.clientToken, PATIENT);
    storm.#near = await connect(storm.#hub.clientToken, { ...PATIENT, node: LABEL });
    // All of it once, for what there is afterwards to be what is always there.
    await storm.#put(storm.#client, "text", `=${TEXT.toString()}`);
    await storm.#put(storm.#near, "node-0", "1/50000");
    await storm.#runJob(3, "job-0");
    await storm.#client.gc();
    await storm.look();
    await storm.start();
    return storm;
  }

  get summary(): string {
    const counts = [...this.#counts].map(([what, count]) => `${what} ${count}`);
    return `seed ${SEED}: ${this.kills} killed, ${this.#acknowledged.count} changes acknowledged; ${counts.toSorted().join(", ")}`;
  }

  async close(): Promise<void> {
    await this.#near.close();
    await this.#client.close();
  }

  async start(): Promise<void> {
    await this.#startHub();
    await this.#startNode();
  }

  async step(): Promise<void> {
    const random = this.#random;
    const victim = random.pick(VICTIMS);
    this.#steps++;
    this.#when = `step ${this.#steps} of seed ${SEED}: ${victim}`;
    switch (victim) {
      case "hub":
        await this.#while(["hub", ...someOf(random, ["node", "jobs", "upkeep"])], async () => {
          await this.#killed(this.#hub, "hub", CHANGES.hub);
          await this.#startHub();
        });
        break;
      case "node":
        await this.#while(["node", ...someOf(random, ["hub", "jobs", "upkeep"])], async () => {
          await this.#killed(this.#node, "node", CHANGES.node);
          await this.#startNode();
        });
        break;
      case "client":
        await this.#while(someOf(random, ["hub", "node"]), () => this.#killClient());
        break;
      case "executor":
        await this.#while(someOf(random, ["hub", "node"]), () => this.#killExecutor());
        break;
    }
  }

  /** Whether all is as it must be: through the hub, and, when it and its node have ended, on their disks. */
  async look(): Promise<void> {
    this.#when = `looking after ${this.#when}`;
    await this.#untilThere();
    for (const name of this.#acknowledged.names) await this.#read(this.#client, name);
    expect(await this.#client.verify(), this.#when).toMatchObject({ damaged: [], incomplete: [] });
    // Whatever is fetched to the same path takes over, or removes, what a killed one left there.
    for (const path of this.#got.keys()) {
      const mayBeGone = this.#acknowledged.of(path).includes(REMOVED);
      await this.#get(mayBeGone ? "text" : path, path);
    }
    await this.#runJob(2);
    await this.#untilCalm();
    const below = [...descendantsOf(this.#node.pid), ...descendantsOf(this.#hub.pid)];
    expect([await this.#node.end("SIGTERM"), await this.#hub.end("SIGTERM")], this.#when).toEqual([
      { status: 0, signal: null },
      { status: 0, signal: null },
    ]);
    await goneAll(below);
    await this.#lookAtDisks();
  }

  async #lookAtDisks(): Promise<void> {
    const [hub, node] = [join(this.#cwd, "hub"), join(this.#cwd, LABEL)];
    const files = { hub: filesBelow(hub), node: filesBelow(node) };
    this.#files ??= files;
    const out = filesBelow(join(this.#cwd, "out")).filter((name) => !this.#got.has(name));
    const tmp = readdirSync(join(this.#cwd, "tmp"));
    expect({ ...files, out, tmp }, this.#when).toEqual({ ...this.#files, out: [], tmp: [] });
    await using store = await openLocal(hub);
    const names: string[] = [];
    for await (const { name } of store.list()) {
      names.push(name);
      // Where its bytes are is another question, and was asked before.
      expect(this.#acknowledged.names, this.#when).toContain(name);
      expect(
        this.#acknowledged.of(name).some((content) => content !== REMOVED),
        `${name}, ${this.#when}`,
      ).toBe(true);
    }
    for (const name of this.#acknowledged.names.filter((each) => !names.includes(each))) {
      expect(this.#acknowledged.of(name), `${name}, ${this.#when}`).toContain(REMOVED);
      this.#acknowledged.settled(name, REMOVED);
    }
    expect((await store.verify()).damaged, this.#when).toEqual([]);
    await using beside = await openLocal(node);
    expect((await beside.verify()).damaged, this.#when).toEqual([]);
  }

  /** Resolves when nobody has more open, or runs more, than when all had worked once. */
  async #untilCalm(): Promise<void> {
    const look = (): Calm => ({
      hubSockets: socketsOf(this.#hub.pid),
      nodeProcesses: descendantsOf(this.#node.pid).length,
      ownSockets: socketsOf(process.pid),
    });
    if (this.#calm === undefined) {
      await sleep(3000);
      this.#calm = look();
    }
    const { hubSockets, nodeProcesses, ownSockets } = this.#calm;
    const isCalm = (): boolean => {
      const now = look();
      return (
        now.hubSockets <= hubSockets && now.nodeProcesses <= nodeProcesses && now.ownSockets <= ownSockets
      );
    };
    for (let looks = 0; looks < 600 && !isCalm(); looks++) await sleep(100);
    expect({ ...look(), isCalm: isCalm() }, `${this.#when}, was ${JSON.stringify(this.#calm)}`).toMatchObject(
      { isCalm: true },
    );
    for (const { pid } of [this.#hub, this.#node]) {
      const deleted = descriptorsOf(pid).filter(
        (path) => path.endsWith("(deleted)") && !path.startsWith("/dev/shm"),
      );
      expect(deleted, this.#when).toEqual([]);
    }
    // Whose parent was killed a moment ago may be about to end.
    for (let looks = 0; looks < 100 && orphans().length > 0; looks++) await sleep(100);
    expect(orphans(), this.#when).toEqual([]);
    const shared = sharedFiles();
    // Others on this machine make such files and unlink them at once.
    await sleep(500);
    expect(
      sharedFiles().filter((name) => shared.includes(name)),
      this.#when,
    ).toEqual([]);
  }

  /** Has actors work until what is done meanwhile is done, and each has ended what it had begun. */
  async #while(actors: readonly Actor[], work: () => Promise<void>): Promise<void> {
    let isOver = false;
    const acting = actors.map((actor) => this.#act(actor, new Random(this.#random.word()), () => isOver));
    const working = work().finally(() => (isOver = true));
    // Whoever fails ends the others too: what they work on is about to be closed.
    await Promise.all([working, ...acting]).finally(() => (isOver = true));
    await this.#untilThere();
  }

  async #act(actor: Actor, random: Random, isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      try {
        await this.#operate(actor, random);
      } catch (error) {
        if (!(error instanceof PacketfsError)) throw error;
        this.#count(`${actor} ${error.code}`);
        if (!LOST.test(error.code)) throw new Error(this.#when, { cause: error });
        // What is refused at once leaves no turn to those who would end this.
        await sleep(1);
      }
    }
  }

  async #operate(actor: Actor, random: Random): Promise<void> {
    const store = actor === "node" ? this.#near : this.#client;
    const name = `${actor}-${random.below(4)}`;
    const draw = random.below(8);
    if (actor === "jobs") return this.#runJob(random.below(10), draw < 4 ? name : undefined);
    if (actor === "upkeep") {
      await (draw < 5 ? this.#client.gc() : this.#client.verify());
      return;
    }
    if (draw < 4) return this.#put(store, name, someContent(random));
    await this.#read(store, name);
    if (draw > 6 && !this.#acknowledged.of(name).includes(REMOVED)) {
      this.#acknowledged.begun(name, REMOVED);
      await this.#client.remove(name);
      this.#acknowledged.acknowledged(name, REMOVED);
    }
  }

  async #put(store: PacketFS, name: string, content: string): Promise<void> {
    this.#acknowledged.begun(name, content);
    await store.put(contentBytes(content), { name });
    this.#acknowledged.acknowledged(name, content);
  }

  async #read(store: PacketFS, name: string): Promise<void> {
    const allowed = this.#acknowledged.of(name);
    const content = await contentOf(store, name, allowed);
    expect(allowed, `${name}, ${this.#when}`).toContain(content);
  }

  async #runJob(factor: number, out?: string, onEvent: (event: JobEvent) => void = () => {}): Promise<void> {
    const content = `=${LINES * factor}`;
    if (out !== undefined) this.#acknowledged.begun(out, content);
    const options = { args: factor, splitBytes: 4000, onEvent, ...(out === undefined ? {} : { out }) };
    const { value } = await this.#client.run({ source: COUNT }, ["text"], options);
    if (out === undefined) expect(value, this.#when).toBe(LINES * factor);
    else this.#acknowledged.acknowledged(out, content);
  }

  /** Kills the process at a change to its disk, of which the actors make it make many. */
  async #killed(daemon: Daemon, victim: "hub" | "node", changes: number): Promise<void> {
    const at = `${1 + this.#random.below(changes)}${this.#random.below(2) === 0 ? "" : "+"}`;
    this.#when += `, killed at ${at}`;
    await this.#arm(daemon, victim, at);
    expect((await daemon.ended).signal, this.#when).toBe("SIGKILL");
    this.#hasKilled(victim);
  }

  async #arm(daemon: Daemon, name: string, at: string): Promise<void> {
    const file = join(this.#cwd, `${name}.kill`);
    writeFileSync(file, at);
    daemon.process.kill("SIGUSR2");
    await until(() => !existsSync(file));
  }

  async #killClient(): Promise<void> {
    const random = this.#random;
    const name = `client-${random.below(4)}`;
    const content = someContent(random);
    const length = contentBytes(content).length;
    const [known = REMOVED] = this.#acknowledged.of(name);
    const kind = known === REMOVED ? "put" : random.pick(["put", "put", "get", "rm", "gc", "run"] as const);
    const bytes = random.below((kind === "put" || kind === "get" ? length : 0) + 6000);
    this.#when += `, ${kind} ${name}, killed at byte ${bytes}`;
    const kill = (child: ChildProcess): void => {
      this.#line.onBytes = () => {
        if (this.#line.sent + this.#line.received >= bytes) child.kill("SIGKILL");
      };
    };
    switch (kind) {
      case "put": {
        writeFileSync(join(this.#cwd, "in", name), contentBytes(content));
        this.#acknowledged.begun(name, content);
        const words = ["put", join("in", name), ...(random.below(3) === 0 ? ["--node", LABEL] : [])];
        if (await this.#pfs(words, kill)) this.#acknowledged.acknowledged(name, content);
        return;
      }
      case "get":
        return this.#get(name, name, kill);
      case "rm":
        if (this.#acknowledged.of(name).includes(REMOVED)) return;
        this.#acknowledged.begun(name, REMOVED);
        if (await this.#pfs(["rm", name], kill)) this.#acknowledged.acknowledged(name, REMOVED);
        return;
      case "gc":
        await this.#pfs(["gc"], kill);
        return;
      case "run": {
        const factor = random.below(10);
        const out = "client-job";
        this.#acknowledged.begun(out, `=${LINES * factor}`);
        const words = ["run", "count.ts", "text", "--no-check", "--split", "4000", "--args", String(factor)];
        if (await this.#pfs([...words, "--out", out], kill))
          this.#acknowledged.acknowledged(out, `=${LINES * factor}`);
      }
    }
  }

  async #get(name: string, to = name, kill?: (child: ChildProcess) => void): Promise<void> {
    const allowed = this.#acknowledged
      .of(name)
      .filter((content) => content !== REMOVED)
      .map(contentBytes);
    if (allowed.length < this.#acknowledged.of(name).length) return;
    const path = join(this.#cwd, "out", to);
    const held = this.#got.get(to) ?? [];
    this.#got.set(to, held);
    const done = await this.#pfs(["get", name, "-o", path], kill);
    const now = existsSync(path) ? readFileSync(path) : undefined;
    const right = done ? allowed : [...held, ...allowed];
    if (now === undefined) return expect({ done, held }, this.#when).toEqual({ done: false, held: [] });
    expect(
      right.some((bytes) => bytes.equals(now)),
      this.#when,
    ).toBe(true);
    this.#got.set(to, [now]);
  }

  /** Whether a command acknowledged what it was to do. */
  async #pfs(words: readonly string[], kill?: (child: ChildProcess) => void): Promise<boolean> {
    this.#line.sent = 0;
    this.#line.received = 0;
    const token = this.#line.token(this.#hub.clientToken);
    const { status, out, err } = await pfs([...words, "--at", token, "--json", "--quiet"], {
      cwd: this.#cwd,
      environment: { TMPDIR: join(this.#cwd, "tmp") },
      ...(kill === undefined ? {} : { whileRunning: kill }),
    });
    this.#line.onBytes = () => {};
    if (status === null) this.#hasKilled("client");
    else expect({ status, out, err }, this.#when).toMatchObject({ status: 0, err: "" });
    return out.endsWith("\n");
  }

  /** Kills executors of the node in the middle of a job, whose answer is right all the same. */
  async #killExecutor(): Promise<void> {
    const random = this.#random;
    const at = 1 + random.below(8);
    const [all, which] = [random.below(2) === 0, random.word()];
    this.#when += `, killed at progress ${at}`;
    let seen = 0;
    await this.#runJob(random.below(10), random.below(3) === 0 ? "executor-job" : undefined, ({ kind }) => {
      if (kind !== "progress" || ++seen !== at) return;
      const running = executorsOf(this.#node.pid);
      const victims = all ? running : running.slice(which % running.length).slice(0, 1);
      if (signalAll(victims, "SIGKILL") > 0) this.#hasKilled("executor");
    });
  }

  /** Starts the hub, of which some are killed while they start. */
  async #startHub(): Promise<void> {
    const token = this.#hub as HubDaemon | undefined;
    const start = async (environment: Readonly<Record<string, string>>): Promise<void> => {
      this.#hub = await startHub({
        store: join(this.#cwd, "hub"),
        ...(token === undefined ? {} : { address: token.address }),
        execArgv: ["--import", KILLED_AT],
        environment: {
          TMPDIR: join(this.#cwd, "tmp"),
          PACKETFS_TEST_KILL_FILE: join(this.#cwd, "hub.kill"),
          ...environment,
        },
      });
    };
    await this.#start("hub", start, () => this.#hub);
    if (token !== undefined) expect(this.#hub.clientToken, this.#when).toBe(token.clientToken);
  }

  async #startNode(): Promise<void> {
    await this.#start(
      "node",
      async (environment) => {
        this.#node = await joinNode(this.#hub.joinToken, LABEL, {
          store: join(this.#cwd, LABEL),
          execArgv: ["--import", KILLED_AT],
          environment: {
            TMPDIR: join(this.#cwd, "tmp"),
            PACKETFS_TEST_KILL_FILE: join(this.#cwd, "node.kill"),
            ...environment,
          },
        });
      },
      () => this.#node,
    );
  }

  async #start(
    victim: "hub" | "node",
    start: (environment: Readonly<Record<string, string>>) => Promise<void>,
    started: () => Daemon,
  ): Promise<void> {
    if (this.#random.below(4) === 0) {
      const at = String(1 + this.#random.below(CHANGES.start));
      this.#when += `, killed at ${at} of its start`;
      const isUp = await start({ PACKETFS_TEST_KILL_AT: at }).then(
        () => true,
        () => false,
      );
      // It is up, and its change may still come, at any time, or never: not while others count on it.
      if (isUp) await started().end("SIGKILL");
      this.#hasKilled(`${victim} that starts`);
    }
    await start({});
  }

  async #untilThere(): Promise<void> {
    await until(async () => {
      const nodes = await this.#client.nodes().catch(() => []);
      return nodes.some(({ label, role }) => label === LABEL && role === "node");
    });
  }

  #hasKilled(victim: string): void {
    this.kills++;
    this.#count(victim);
  }

  #count(what: string): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + 1);
  }
}

function someOf(random: Random, actors: readonly Actor[]): Actor[] {
  return actors.filter(() => random.below(2) === 0);
}

/** Connections over TCP. Those to its own executors, of which it may have one more ahead, are sockets of another kind. */
function socketsOf(pid: number): number {
  const rows = ["tcp", "tcp6"].flatMap((table) => readFileSync(`/proc/net/${table}`, "latin1").split("\n"));
  const inodes = new Set(rows.map((row) => row.trim().split(/\s+/)[9]));
  return descriptorsOf(pid).filter((target) => inodes.has(/^socket:\[(\d+)\]$/.exec(target)?.[1] ?? "none"))
    .length;
}

/** Executor processes whose parents are gone. Those of tests beside this one have theirs. */
function orphans(): number[] {
  const executors = processesOf(...EXECUTOR);
  const parents = processesOf(CHECKOUT);
  return [...executors].filter(([, parent]) => !parents.has(parent)).map(([pid]) => pid);
}

function sharedFiles(): string[] {
  return existsSync("/dev/shm")
    ? readdirSync("/dev/shm").filter((name) => name.startsWith("packetfs-input-"))
    : [];
}
