/** What else people have for this, measured beside the rival where it is installed: other trade-offs, and no goals. */
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort } from "./movers.ts";
import type { Mover, Served } from "./movers.ts";
import { ServerProcess } from "./processes.ts";

export type AnchorName = "zsync" | "casync" | "borg" | "restic";

/** Why it cannot be measured; undefined where it can. */
export function whyNot(name: AnchorName): string | undefined {
  const needs: Readonly<Record<AnchorName, readonly string[]>> = {
    zsync: ["zsync", "zsyncmake"],
    casync: ["casync"],
    borg: ["borg"],
    restic: ["restic"],
  };
  const lacking = needs[name].filter((command) => spawnSync(command, ["--help"]).error !== undefined);
  return lacking.length === 0 ? undefined : `${lacking.join(" and ")} is not installed`;
}

export function anchor(name: AnchorName): Mover {
  return { name, serve: SERVES[name] };
}

const SERVES: Readonly<Record<AnchorName, Mover["serve"]>> = {
  /** The server has a file and a list of its blocks' hashes, made before; whoever fetches reads what he has. */
  zsync: async (versions, folder) => {
    const served = folderIn(folder, "served");
    copyFileSync(versions.at(-1)!, join(served, "moved"));
    run("zsyncmake", ["-u", "moved", "-o", "moved.zsync", "moved"], served);
    return await serveFiles(served, {
      get: (target, url) => ["zsync", "-i", target, "-o", target, `${url}/moved.zsync`],
    });
  },
  /** The server has chunks and an index of them, made before; whoever fetches cuts what he has, and asks for the chunks that he lacks. */
  casync: async (versions, folder) => {
    const served = folderIn(folder, "served");
    run("casync", ["make", "--store=chunks.castr", "moved.caibx", versions.at(-1)!], served);
    return await serveFiles(served, {
      get: (target, url) => ["sh", "-c", EXTRACT, "casync", target, url],
    });
  },
  /** `borg serve` at the other end, over a connection that nobody encrypts. */
  borg: async (_versions, folder) => {
    const repository = join(folder, "repository");
    const [server, client] = [folderIn(folder, "borg-server"), folderIn(folder, "borg-client")];
    run("borg", ["init", "-e", "none", repository], folder, borgAt(server));
    const port = freePort();
    const listen = [process.execPath, PIPE, "listen", `${port}`, "borg", "serve", "--umask=077"];
    const { server: listening } = await ServerProcess.start(listen, port, borgAt(server));
    return {
      server: listening,
      port,
      get: notFetched,
      put: (source, at) => [
        "borg",
        "create",
        "-C",
        "zstd",
        `ssh://127.0.0.1:${at}${repository}::{utcnow}`,
        source,
      ],
      env: { ...borgAt(client), BORG_RSH: `${process.execPath} ${PIPE} dial` },
    };
  },
  /** Its own server's protocol; everything is encrypted, and compressed by version 2 of its repositories. */
  restic: async (_versions, folder) => {
    const served = folderIn(folder, "served");
    const env = { RESTIC_PASSWORD: "bench", RESTIC_CACHE_DIR: folderIn(folder, "restic-cache") };
    const serving = await serveFiles(served, { get: notFetched });
    const url = `rest:http://127.0.0.1:${serving.port}/`;
    run("restic", ["-r", url, "init", "--repository-version", "2"], folder, env);
    return {
      ...serving,
      put: (source, at) => ["restic", "-r", `rest:http://127.0.0.1:${at}/`, "backup", source],
      env,
    };
  },
};

/** What is at the target is not written over while it is read. */
const EXTRACT =
  'mv "$1" "$1.old"; exec casync extract --seed-output=no --seed="$1.old" --store="$2/chunks.castr" "$2/moved.caibx" "$1"';
const PIPE: string = fileURLToPath(new URL("./pipe.ts", import.meta.url));
const FILE_SERVER: string = fileURLToPath(new URL("./file-server.ts", import.meta.url));

interface Fetching {
  readonly get: (target: string, url: string) => readonly string[];
}

async function serveFiles(directory: string, { get }: Fetching): Promise<Served> {
  const port = freePort();
  const { server } = await ServerProcess.start([process.execPath, FILE_SERVER, directory, `${port}`], port);
  return {
    server,
    port,
    get: (target, at) => get(target, `http://127.0.0.1:${at}`),
    put: () => {
      throw new Error("nothing is stored at a server of files");
    },
  };
}

function notFetched(): never {
  throw new Error("it is measured where something is stored, and not where it is fetched");
}

function borgAt(directory: string): NodeJS.ProcessEnv {
  return {
    BORG_BASE_DIR: directory,
    BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: "yes",
    BORG_RELOCATED_REPO_ACCESS_IS_OK: "yes",
  };
}

function folderIn(folder: string, name: string): string {
  const path = join(folder, name);
  mkdirSync(path);
  return path;
}

function run(command: string, words: readonly string[], cwd: string, env: NodeJS.ProcessEnv = {}): void {
  execFileSync(command, words, { cwd, env: { ...process.env, ...env }, stdio: ["ignore", "ignore", "pipe"] });
}
