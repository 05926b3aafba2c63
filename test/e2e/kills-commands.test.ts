/** Commands that are killed at a change to their disk, on a store of their own: see kills.ts. */
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { JOB_HISTORY_FILE } from "../../runtime/job/job-history.ts";
import { WALL_HISTORY_FILE } from "../../runtime/wall-history.ts";
import { openLocal } from "../../sdk/index.ts";
import { Random } from "../packets/seed.ts";
import { pfs, temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import { Acknowledged, REMOVED } from "../suites/acknowledged.ts";
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

/** What a store has that nobody has opened, and what it has besides once programs ran on it. */
const CLOSED_STORE = ["format.json", "index.check", "index.db", "reserve", "writer.lock"];
const RUN_ON = [JOB_HISTORY_FILE, WALL_HISTORY_FILE];

describe("commands that are killed at a change to their disk", () => {
  const kills = Math.floor((KILLS * 3) / 7);
  it(
    `${kills} times, leave a store that has what was acknowledged, and nothing else`,
    { timeout: HANGING_MS },
    async ({ annotate }) => {
      const storm = await CommandStorm.begin(new Random(SEED));
      while (storm.kills < kills) await storm.step();
      await storm.end();
      await annotate(storm.summary);
    },
  );
});

type Kind = "put" | "rm" | "gc" | "get" | "run";
const KINDS: readonly Kind[] = ["put", "put", "put", "rm", "gc", "get", "run"];
/** Changes that a command of a kind makes, at most, or nearly so. */
const CHANGES: Readonly<Record<Kind, number>> = { put: 70, rm: 40, gc: 60, get: 30, run: 70 };

class CommandStorm {
  kills = 0;
  #survived = 0;
  #steps = 0;
  readonly #random: Random;
  readonly #cwd: string;
  #store: string;
  #acknowledged = new Acknowledged();
  #acknowledgements = 0;
  readonly #byKind = new Map<string, number>();
  /** What the files that "get" wrote may hold. */
  readonly #got = new Map<string, readonly Buffer[]>();

  private constructor(random: Random, cwd: string) {
    this.#random = random;
    this.#cwd = cwd;
    this.#store = join(cwd, "store-0");
  }

  static async begin(random: Random): Promise<CommandStorm> {
    const storm = new CommandStorm(random, await temporaryDirectory());
    for (const directory of ["in", "out", "tmp"]) mkdirSync(join(storm.#cwd, directory));
    writeFileSync(join(storm.#cwd, "count.ts"), COUNT);
    writeFileSync(join(storm.#cwd, "in", "text"), TEXT);
    return storm;
  }

  get summary(): string {
    const kinds = [...this.#byKind].map(([kind, count]) => `${kind} ${count}`).join(", ");
    return `seed ${SEED}: ${this.kills} killed (${kinds}), ${this.#survived} ended first, ${this.#acknowledgements} changes acknowledged`;
  }

  async step(): Promise<void> {
    const random = this.#random;
    this.#steps++;
    if (random.below(9) === 0) await this.#change();
    // What another command than "put" says of a store that is not there is no business of this storm.
    const kind = existsSync(this.#store) ? random.pick(KINDS) : "put";
    const at = `${1 + random.below(CHANGES[kind])}${random.below(2) === 0 ? "" : "+"}`;
    const when = `step ${this.#steps} of seed ${SEED}: ${kind}, killed at ${at}`;
    const touched = await this.#do(kind, at, when);
    // There is nothing to read in a store whose making was interrupted; the next one who writes makes it.
    const isMade = existsSync(join(this.#store, "format.json"));
    await this.#look(touched, when, random.below(2) === 0 || !isMade);
    if (this.#steps % ERA === 0) await this.#lookAtAll(when);
  }

  async end(): Promise<void> {
    await this.#lookAtAll("the end");
  }

  /** A new store, for kills while it is made. */
  async #change(): Promise<void> {
    await this.#lookAtNames(`before store ${this.#steps}`);
    rmSync(this.#store, { recursive: true });
    this.#store = join(this.#cwd, `store-${this.#steps}`);
    this.#acknowledgements += this.#acknowledged.count;
    this.#acknowledged = new Acknowledged();
  }

  /** Runs a command, to its end or to its kill; resolves with the names that it was about. */
  async #do(kind: Kind, at: string, when: string): Promise<string[]> {
    const random = this.#random;
    const names = Array.from({ length: 1 + random.below(3) }, () => `name-${random.below(8)}`);
    const unique = [...new Set(names)];
    switch (kind) {
      case "put": {
        const contents = new Map(unique.map((name) => [name, someContent(random)]));
        for (const [name, content] of contents)
          writeFileSync(join(this.#cwd, "in", name), contentBytes(content));
        return this.#put(contents, at, when);
      }
      case "rm": {
        const there = unique.filter((name) => !this.#acknowledged.of(name).includes(REMOVED));
        if (there.length === 0) return [];
        for (const name of there) this.#acknowledged.begun(name, REMOVED);
        const done = await this.#pfs(kind, ["rm", ...there], at, when);
        for (const name of done.length > 0 ? there : []) this.#acknowledged.acknowledged(name, REMOVED);
        return there;
      }
      case "gc":
        await this.#pfs(kind, ["gc"], at, when);
        return [];
      case "get":
        return this.#get(unique[0]!, at, when);
      case "run": {
        const factor = random.below(10);
        const name = "counted";
        await this.#put(new Map([["text", `=${TEXT.toString()}`]]), "0", when);
        const words = ["run", "count.ts", "text", "--out", name, "--args", String(factor)];
        if (random.below(3) > 0) words.push("--no-check");
        const content = `=${LINES * factor}`;
        this.#acknowledged.begun(name, content);
        const done = await this.#pfs(kind, words, at, when);
        if (done.length > 0) this.#acknowledged.acknowledged(name, content);
        return [name];
      }
    }
  }

  async #put(contents: ReadonlyMap<string, string>, at: string, when: string): Promise<string[]> {
    const names = [...contents.keys()];
    for (const [name, content] of contents) this.#acknowledged.begun(name, content);
    const words = ["put", ...names.map((name) => join("in", name))];
    for (const line of await this.#pfs("put", words, at, when)) {
      const name = String(line["name"]);
      this.#acknowledged.acknowledged(name, contents.get(name)!);
    }
    return names;
  }

  async #get(name: string, at: string, when: string, to = name): Promise<string[]> {
    // A put that was killed may have happened.
    const allowed = this.#acknowledged.of(name);
    if (allowed.includes(REMOVED)) return [];
    const path = join(this.#cwd, "out", to);
    const held = this.#got.get(to) ?? [];
    this.#got.set(to, held);
    const stored = allowed.map(contentBytes);
    const done = await this.#pfs("get", ["get", name, "-o", path], at, when);
    const now = readdirSync(join(this.#cwd, "out")).includes(to) ? readFileSync(path) : undefined;
    if (now === undefined) expect({ done, held }, when).toEqual({ done: [], held: [] });
    else {
      const right = done.length > 0 ? stored : [...held, ...stored];
      expect(
        right.some((each) => each.equals(now)),
        when,
      ).toBe(true);
      this.#got.set(to, [now]);
    }
    return [name];
  }

  /** The lines that a command printed. It ends well, or by its kill. */
  async #pfs(
    kind: Kind,
    words: readonly string[],
    at: string,
    when: string,
  ): Promise<Record<string, unknown>[]> {
    const { status, out, err } = await pfs([...words, "--json", "--quiet", "--store", this.#store], {
      cwd: this.#cwd,
      execArgv: ["--import", KILLED_AT],
      environment: { TMPDIR: join(this.#cwd, "tmp"), PACKETFS_TEST_KILL_AT: at },
    });
    const isKilled = status === null;
    if (!isKilled) expect({ status, out, err }, when).toMatchObject({ status: 0, err: "" });
    if (isKilled) {
      this.kills++;
      this.#byKind.set(kind, (this.#byKind.get(kind) ?? 0) + 1);
    } else if (at !== "0") this.#survived++;
    // Of a line that was not finished nobody can say what it acknowledged.
    return out
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  /** A fresh look, as somebody who only reads, or as the next one who writes, and then puts all in order. */
  async #look(names: readonly string[], when: string, writes: boolean): Promise<void> {
    {
      await using store = await openLocal(this.#store);
      if (writes) {
        await store.put(TEXT, { name: "text" });
        this.#acknowledged.acknowledged("text", `=${TEXT.toString()}`);
      }
      expect(await store.verify(), when).toMatchObject({ damaged: [], incomplete: [] });
      for (const name of names) {
        const allowed = this.#acknowledged.of(name);
        const content = await contentOf(store, name, allowed);
        expect(allowed, `${name}, ${when}`).toContain(content);
        // Who only reads may not see yet what the next one who writes finds in the segments.
        if (writes) this.#acknowledged.settled(name, content);
      }
    }
    if (writes) this.#lookAtFiles(when);
  }

  async #lookAtNames(when: string): Promise<void> {
    await this.#look(this.#acknowledged.names, when, true);
    await using store = await openLocal(this.#store);
    const names: string[] = [];
    for await (const { name } of store.list()) names.push(name);
    const expected = this.#acknowledged.names.filter((name) => this.#acknowledged.of(name)[0] !== REMOVED);
    expect(names, when).toEqual(expected);
  }

  async #lookAtAll(when: string): Promise<void> {
    await this.#lookAtNames(when);
    // What is used next to the same end takes over, or removes, what was left.
    await this.#put(new Map([["text", `=${TEXT.toString()}`]]), "0", when);
    // Whatever is fetched to the same path takes over, or removes, what a killed one left there.
    for (const path of this.#got.keys()) {
      const mayBeGone = this.#acknowledged.of(path).includes(REMOVED);
      await this.#get(mayBeGone ? "text" : path, "0", when, path);
    }
    const words = ["run", "count.ts", "text", "--args", "1"];
    const [answer] = await this.#pfs("run", words, "0", when);
    expect(answer, when).toMatchObject({ value: LINES });
    this.#lookAtFiles(when);
    const out = filesBelow(join(this.#cwd, "out")).filter((name) => !this.#got.has(name));
    expect({ out, tmp: readdirSync(join(this.#cwd, "tmp")) }, when).toEqual({ out: [], tmp: [] });
  }

  #lookAtFiles(when: string): void {
    const files = filesBelow(this.#store);
    expect(files, when).toEqual(expect.arrayContaining([...CLOSED_STORE]));
    const others = files.filter((file) => !CLOSED_STORE.includes(file));
    expect(RUN_ON, when).toEqual(expect.arrayContaining(others));
  }
}
