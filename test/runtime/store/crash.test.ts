import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { Store } from "../../../runtime/store/store.ts";
import { Random } from "../../packets/seed.ts";
import { Acknowledged, REMOVED } from "../../suites/acknowledged.ts";
import { bytesOf } from "./put-content.ts";
import { filesIn, get, temporaryDirectory } from "./store-fixture.ts";

const CHILD = fileURLToPath(new URL("./putting-child.ts", import.meta.url));
const KILLS = Number(process.env["PACKETFS_TEST_KILLS"] ?? 10);
/** PACKETFS_TEST_SEED has them come at other moments. */
const SEED = Number(process.env["PACKETFS_TEST_SEED"] ?? 20_261_120);
/** Nothing is decided by it: it ends what hangs. */
const HANGING_MS = 240_000 + KILLS * 60_000;
/** Three lanes have said what they begin, and one what it has done. */
const LINES_LEAST = 4;

/** Runs a child that puts files, kills it when it has said so many lines, and returns all that it said. */
async function putAndKill(directory: string, run: number, lines: number): Promise<string[]> {
  using child = spawn(process.execPath, [CHILD, directory, String(run)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.setEncoding("utf8");
  child.stdout.on("data", (text: string) => {
    output += text;
    if (output.split("\n").length > lines) child.kill("SIGKILL");
  });
  await once(child, "close");
  return output.split("\n").slice(0, -1);
}

/** What a name holds, as the child would put it. */
async function contentOf(store: Store, name: string, candidates: readonly string[]): Promise<string> {
  if ((await store.catalog.resolve(name)) === undefined) return REMOVED;
  const bytes = await get(store, name);
  const same = (content: string): boolean =>
    content !== REMOVED && Buffer.compare(bytesOf(content), bytes) === 0;
  return candidates.find(same) ?? "something else";
}

test(
  `what was acknowledged is there after each of ${KILLS} kills`,
  async () => {
    await using directory = await temporaryDirectory();
    const random = new Random(SEED);
    const acknowledged = new Acknowledged();
    for (let run = 0; run < KILLS; run++) {
      // Counted by what it did, and not by time: a busy machine must not kill it before it did anything. One of three lanes
      // has spoken last, the other two are somewhere in the middle of their puts.
      const lines = LINES_LEAST + random.below(60);
      for (const line of await putAndKill(directory.path, run, lines)) {
        const [word, name = "", content = ""] = line.split(" ");
        if (word === "done") acknowledged.acknowledged(name, content);
        else acknowledged.begun(name, content);
      }
      await using store = await Store.open(directory.path);
      const when = `run ${run}, killed after ${lines} lines`;
      expect(await store.verify(), when).toMatchObject({ damaged: [], incomplete: [] });
      for (const name of acknowledged.names) {
        const candidates = acknowledged.of(name);
        const content = await contentOf(store, name, candidates);
        expect(candidates, `${name}, ${when}`).toContain(content);
        acknowledged.settled(name, content);
      }
    }
    expect(acknowledged.count).toBeGreaterThanOrEqual(KILLS);
    const left = Object.keys(filesIn(directory.path)).filter((path) => !/^segments\/\d{8}\.seg$/.test(path));
    const known = ["format.json", "index.check", "index.db", "reserve", "writer.lock"];
    expect(left.toSorted()).toEqual(known);
  },
  HANGING_MS,
);
