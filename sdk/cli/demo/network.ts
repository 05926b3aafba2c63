/** A hub and nodes as processes of their own, started by the commands that people type. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { makeTemporaryDirectory } from "../../../runtime/temporary-directory.ts";

const PFS = fileURLToPath(new URL("../../bin/pfs.mjs", import.meta.url));

export interface Network {
  readonly clientToken: string;
  readonly joinToken: string;
  readonly hub: ChildProcess;
  readonly nodes: readonly { readonly label: string; readonly process: ChildProcess }[];
  stop(): Promise<void>;
}

export interface NetworkOptions {
  readonly nodes: number;
  readonly workers: number;
  /** The hub's own workers; by default it only coordinates. */
  readonly hubWorkers?: number;
  readonly signal?: AbortSignal;
}

/** Resolves when every node has joined. The stores are in a temporary folder that `stop` removes. */
export async function startNetwork({
  nodes,
  workers,
  hubWorkers = 0,
  signal,
}: NetworkOptions): Promise<Network> {
  const directory = await makeTemporaryDirectory("network");
  const processes: ChildProcess[] = [];
  const stop = async (): Promise<void> => {
    for (const child of processes.toReversed()) await end(child);
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    const hub = start(processes, [
      "up",
      "--listen",
      "127.0.0.1:0",
      "--workers",
      `${hubWorkers}`,
      "--store",
      join(directory, "hub"),
    ]);
    const { clientToken, joinToken } = await readyLine(hub);
    const joined = [];
    for (let index = 0; index < nodes; index++) {
      signal?.throwIfAborted();
      const label = `node-${index + 1}`;
      const store = join(directory, label);
      const listen = ["--listen", "127.0.0.1:0"];
      const child = start(
        processes,
        ["join", ...listen, "--label", label, "--workers", `${workers}`, "--store", store],
        { PACKETFS_JOIN: joinToken! },
      );
      await readyLine(child);
      joined.push({ label, process: child });
    }
    return { clientToken: clientToken!, joinToken: joinToken!, hub, nodes: joined, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function start(
  processes: ChildProcess[],
  words: readonly string[],
  variables: Readonly<Record<string, string>> = {},
): ChildProcess {
  const child = spawn(process.execPath, [PFS, ...words, "--json"], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...variables },
  });
  processes.push(child);
  return child;
}

/** The line in which the process says that it is ready; other news may come before it. */
async function readyLine(child: ChildProcess): Promise<Record<string, string>> {
  for await (const line of createInterface({ input: child.stdout! })) {
    const said = JSON.parse(line) as Record<string, string>;
    if (said["event"] === "listening" || said["event"] === "joined") {
      // Nobody reads on, and a full pipe must not stop it.
      child.stdout!.resume();
      return said;
    }
  }
  throw new Error(`"pfs ${child.spawnargs.slice(2).join(" ")}" ended before it was ready`);
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGTERM");
  await once(child, "exit");
}
