/** Commands that are killed or interrupted in the middle of a file, and given again: they go on where they were. Real processes. */
import type { ChildProcess } from "node:child_process";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { connect } from "../../sdk/index.ts";
import { pfs, temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import type { Finished } from "../sdk/cli/run-pfs.ts";
import { startHub } from "./daemon.ts";
import { noise } from "./inputs.ts";
import { Line } from "./line.ts";

const FILE_BYTES = 12_000_000;
/** What is on its way when a command ends, and what is said beside its bytes. */
const SLACK_BYTES = 3_200_000;

/** `pfs words…` over the line; once so many bytes passed it, nothing passes any more, and the process gets the signal. */
async function interrupted(
  line: Line,
  words: readonly string[],
  how: { readonly signal: NodeJS.Signals; readonly environment: Readonly<Record<string, string>> },
): Promise<Finished> {
  let child: ChildProcess | undefined;
  const begin = line.received + line.sent;
  line.onBytes = () => {
    if (line.received + line.sent - begin < FILE_BYTES / 2) return;
    line.onBytes = () => {};
    child!.kill(how.signal);
  };
  const { environment } = how;
  const done = await pfs(words, { environment, whileRunning: (process) => (child = process) });
  line.onBytes = () => {};
  return done;
}

it.each([
  ["new", "with what it remembers", {}],
  ["new", "without", { PACKETFS_CACHE_BYTES: "0" }],
  ["new", "of which there is no room for it", { PACKETFS_CACHE_BYTES: "1MB" }],
  ["known", "with what it remembers", {}],
  ["known", "without", { PACKETFS_CACHE_BYTES: "0" }],
] as const)(
  "a put of a %s name that is killed goes on in another process, %s, and gc takes nothing of it",
  async (kind, _, own) => {
    const folder = await temporaryDirectory();
    const hub = await startHub({ store: join(folder, "hub") });
    const line = await Line.to(hub.address);
    const environment = {
      ...own,
      XDG_CACHE_HOME: join(folder, "cache"),
      PACKETFS_AT: line.token(hub.clientToken),
    };
    const path = join(folder, "file");
    if (kind === "known") {
      writeFileSync(path, noise(FILE_BYTES, 1));
      expect((await pfs(["put", path], { environment })).err).toMatch(/^stored/);
    }
    const bytes = noise(FILE_BYTES, 2);
    writeFileSync(path, bytes);
    const killed = await interrupted(line, ["put", path], { signal: "SIGKILL", environment });
    expect(killed.status).toBeNull();
    await using there = await connect(hub.clientToken);
    await there.gc();
    const before = line.sent;
    const again = await pfs(["put", path, "--json"], { environment });
    expect(again.err).toBe("");
    const { transfer } = JSON.parse(again.out) as { transfer: { wireBytes: { sent: number } } };
    expect(transfer.wireBytes.sent).toBeLessThan(FILE_BYTES / 2 + SLACK_BYTES);
    expect(line.sent - before).toBeLessThan(FILE_BYTES / 2 + SLACK_BYTES);
    const got: Uint8Array[] = [];
    for await (const piece of there.get("file")) got.push(piece);
    expect(Buffer.concat(got).equals(bytes)).toBe(true);
    await hub.end("SIGTERM");
  },
);

it.each(["SIGINT", "SIGKILL"] as const)(
  "a get that ends by %s is gone on with by the next one, or cleaned up",
  async (signal) => {
    const folder = await temporaryDirectory();
    const hub = await startHub({ store: join(folder, "hub") });
    const bytes = noise(FILE_BYTES, 3);
    await using there = await connect(hub.clientToken);
    await there.put(bytes, { name: "file" });
    const line = await Line.to(hub.address);
    const environment = { XDG_CACHE_HOME: join(folder, "cache"), PACKETFS_AT: line.token(hub.clientToken) };
    const target = await temporaryDirectory();
    const words = ["get", "file", "-o", join(target, "copy")];
    const first = await interrupted(line, words, { signal, environment });
    expect(
      readdirSync(target)
        .map((name) => name.replace(/^.*\./, ""))
        .toSorted(),
    ).toEqual(["journal", "part"]);
    if (signal === "SIGINT") {
      expect(first.status).toBe(130);
      expect(first.err).toMatch(
        /^file: \d+ % of it is here; the same command goes on from there\npfs: cancelled\n$/,
      );
    }
    const before = line.received;
    const again = await pfs(words, { environment });
    expect(again.err).toMatch(/verified/);
    expect(line.received - before).toBeLessThan(FILE_BYTES / 2 + SLACK_BYTES);
    expect(readFileSync(join(target, "copy")).equals(bytes)).toBe(true);
    expect(readdirSync(target)).toEqual(["copy"]);
    // One that nobody goes on with.
    await there.put(noise(FILE_BYTES, 4), { name: "file" });
    await interrupted(line, ["get", "file", "-o", join(target, "other")], { signal, environment });
    expect(readdirSync(target)).toHaveLength(3);
    const { out, err } = await pfs(["gc", "--cache"], { environment });
    expect(out + err).toMatch(/freed/);
    expect(readdirSync(target)).toEqual(["copy"]);
    await hub.end("SIGTERM");
  },
);
