/**
 * Files and directories on their way between a hub and a client, one of whom is killed at the n-th byte of their line: whoever is left goes on by
 * itself, whoever is started again ends it, and what came before does not come again. See kills.ts.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { connect } from "../../sdk/index.ts";
import type { PacketFS } from "../../sdk/index.ts";
import { Random } from "../packets/seed.ts";
import { temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import { HAS_PROC } from "../suites/processes.ts";
import { startHub } from "./daemon.ts";
import type { HubDaemon } from "./daemon.ts";
import { bytesOf, noise } from "./inputs.ts";
import { HANGING_MS, KILLS, SEED } from "./kills.ts";
import { Line } from "./line.ts";

const CLIENT = fileURLToPath(new URL("./transferring-main.ts", import.meta.url));
const FILE_BYTES = 6_000_000;
/** Of the file: what is on its way when somebody is killed, and what is said beside its bytes. */
const SLACK_BYTES = 3_200_000;

/** Each of them starts processes, and hubs again: a storm of all has its own runs. */
const TIMES: number = process.env["PACKETFS_TEST_KILLS"] === undefined ? 5 : KILLS;

/** What is moved: made of bytes, put at the hub by somebody whom nobody kills, and its bytes again. */
interface Moved {
  make(path: string, bytes: Buffer): void;
  put(pfs: PacketFS, path: string): Promise<unknown>;
  read(path: string): Buffer;
  readAtHub(pfs: PacketFS): Promise<Buffer>;
  /** Whether clients need to keep something for it. */
  readonly isKept: boolean;
}

const FILE: Moved = {
  make: (path, bytes) => writeFileSync(path, bytes),
  put: async (pfs, path) => await pfs.put({ path }, { name: "file" }),
  read: (path) => readFileSync(path),
  readAtHub: async (pfs) => await bytesOf(pfs, "file"),
  isKept: false,
};

const PARTS = 60;

/** One half of the bytes is a file, and the other half many small ones. */
const DIRECTORY: Moved = {
  make: (path, bytes) => {
    mkdirSync(path);
    const half = bytes.byteLength / 2;
    const size = Math.ceil(half / PARTS);
    writeFileSync(join(path, "00"), bytes.subarray(0, half));
    for (let part = 1; part <= PARTS; part++) {
      const small = bytes.subarray(half + (part - 1) * size, half + part * size);
      writeFileSync(join(path, String(part).padStart(2, "0")), small);
    }
  },
  put: async (pfs, path) => await pfs.putTree(path, { name: "file" }),
  read: (path) => {
    const names = readdirSync(path).toSorted();
    return Buffer.concat(names.map((name) => readFileSync(join(path, name))));
  },
  readAtHub: async (pfs) => {
    const tree = await pfs.openTree("file");
    const pieces: Uint8Array[] = [];
    for (const { path, type } of tree.entries())
      if (type === "file") for await (const piece of tree.read(path)) pieces.push(piece);
    return Buffer.concat(pieces);
  },
  isKept: true,
};

describe.skipIf(!HAS_PROC)("on their way when one end is killed", () => {
  it.for([
    ["files", FILE],
    ["directories", DIRECTORY],
  ] as const)(
    `%s come whole, ${TIMES} times, by themselves, and most of what came before does not come again`,
    { timeout: HANGING_MS },
    async ([, moved], { annotate }) => {
      const random = new Random(SEED);
      const folder = await temporaryDirectory();
      const store = join(folder, "store");
      let hub = await startHub({ store });
      const { address } = hub;
      const counts = new Map<string, number>();
      for (let kill = 0; kill < TIMES; kill++) {
        const direction = random.below(2) === 0 ? "get" : "put";
        const victim = random.below(2) === 0 ? "hub" : "client";
        const at = random.below(FILE_BYTES);
        const when = `seed ${SEED}, kill ${kill}: ${victim} at byte ${at} of a ${direction}`;
        const bytes = noise(FILE_BYTES, SEED + kill);
        const path = join(folder, "file");
        moved.make(path, bytes);
        if (direction === "get") {
          await atHub(hub, async (pfs) => await moved.put(pfs, path));
          rmSync(path, { recursive: true });
        }
        const line = await Line.to(address);
        const kept = moved.isKept ? [join(folder, "cache")] : [];
        const words = [line.token(hub.clientToken), direction, "file", path, ...kept];
        const passed = (): number => line.received + line.sent;
        let client = start(words);
        const died = new Promise<void>((resolve) => {
          line.onBytes = () => {
            if (passed() < at) return;
            line.onBytes = () => {};
            (victim === "hub" ? hub.process : client.process).kill("SIGKILL");
            resolve();
          };
        });
        await Promise.race([died, client.ended]);
        if (victim === "hub") {
          await Promise.race([hub.ended, client.ended]);
          // Whether it was killed, or the client had done everything before that byte: the next one is there again.
          hub.process.kill("SIGKILL");
          await hub.ended;
          hub = await startHub({ store, address });
        } else {
          await client.ended;
          client = start(words);
        }
        expect([when, await client.ended]).toEqual([when, ""]);
        const got =
          direction === "get"
            ? moved.read(path)
            : await atHub(hub, async (pfs) => await moved.readAtHub(pfs));
        expect([when, got.equals(bytes)]).toEqual([when, true]);
        expect([when, passed() < FILE_BYTES + SLACK_BYTES]).toEqual([when, true]);
        const left = ["file", "store", ...(moved.isKept ? ["cache"] : [])].toSorted();
        expect([when, readdirSync(folder).toSorted()]).toEqual([when, left]);
        rmSync(path, { recursive: true });
        line.close();
        const what = `${victim} of a ${direction}`;
        counts.set(what, (counts.get(what) ?? 0) + 1);
      }
      await annotate([...counts].map(([what, count]) => `${what}: ${count}`).join(", "));
      await hub.end("SIGTERM");
    },
  );
});

async function atHub<Result>(
  hub: HubDaemon,
  use: (pfs: Awaited<ReturnType<typeof connect>>) => Promise<Result>,
): Promise<Result> {
  await using pfs = await connect(hub.clientToken, { reconnectMs: 600_000 });
  return await use(pfs);
}

interface Client {
  readonly process: ReturnType<typeof spawn>;
  /** Resolves with what it complained about. */
  readonly ended: Promise<string>;
}

function start(words: readonly string[]): Client {
  const child = spawn(process.execPath, [CLIENT, ...words], { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr.on("data", (bytes: Buffer) => (said += bytes.toString()));
  return { process: child, ended: once(child, "close").then(() => said) };
}
