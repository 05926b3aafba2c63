/** Who moves files: PacketFS, and what people use for it. Each serves at one end of a link and is asked at the other. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { InstalledPackage } from "../installed.ts";
import { ServerProcess, runClient } from "./processes.ts";

/** A server that is there, and the commands by which somebody at the other end fetches from it or stores at it. */
export interface Served {
  readonly server: ServerProcess;
  /** The port behind which it is to be reached: what goes there is counted. */
  readonly port: number;
  get(target: string, at: number): readonly string[];
  put(source: string, at: number): readonly string[];
  /** Of who keeps a connection open: what an SDK connects with. */
  readonly token?: (at: number) => string;
  /** Of whoever asks: where what it remembers is kept. */
  readonly env?: NodeJS.ProcessEnv;
  /** Of somebody else. */
  readonly otherEnv?: NodeJS.ProcessEnv;
}

export interface Mover {
  readonly name: string;
  /** Serves the last of these versions of a file or directory, in a folder of its own. */
  serve(versions: readonly string[], folder: string): Promise<Served>;
}

const NAME = "moved";

export function packetfs(installed: InstalledPackage, isClear: boolean): Mover {
  const pfs = [process.execPath, installed.main];
  const clear = isClear ? ["--bulk", "clear"] : [];
  return {
    name: isClear ? "packetfs, in the clear" : "packetfs",
    serve: async (versions, folder) => {
      const store = join(folder, "store");
      const env = { XDG_CACHE_HOME: join(folder, "server-cache"), XDG_CONFIG_HOME: join(folder, "config") };
      for (const version of versions) {
        const { status, said } = await runClient([...pfs, "put", version, "--name", NAME, "--store", store], {
          env,
        });
        if (status !== 0) throw new Error(said);
      }
      const isTree = versions.some((version) => statSync(version).isDirectory());
      const port = freePort();
      const { server, said } = await ServerProcess.start(
        [...pfs, "up", "--store", store, "--listen", `127.0.0.1:${port}`, "--workers", "0", ...clear],
        /client token +\S+\n[^]*\n/,
        env,
      );
      const token = /client token +(\S+)/.exec(said)![1]!;
      const at = (reached: number): string => `${token}@127.0.0.1:${reached}`;
      return {
        server,
        port,
        token: at,
        get: (target, reached) => [
          ...pfs,
          ...(isTree ? ["sync", NAME, target, "--delete"] : ["get", NAME, "-o", target]),
          "--at",
          at(reached),
          ...clear,
        ],
        put: (source, reached) => [...pfs, "put", source, "--name", NAME, "--at", at(reached), ...clear],
        env: { XDG_CACHE_HOME: join(folder, "client-cache"), XDG_CONFIG_HOME: join(folder, "client-config") },
        otherEnv: { XDG_CACHE_HOME: join(folder, "other-cache") },
      };
    },
  };
}

export function hasRsync(): boolean {
  return spawnSync("rsync", ["--version"]).status === 0;
}

/** rsync's daemon: nothing of it is encrypted. */
export function rsync(...flags: readonly string[]): Mover {
  return {
    name: ["rsync", ...flags].join(" "),
    serve: async (versions, folder) => {
      const last = versions.at(-1);
      const served = join(folder, "served");
      mkdirSync(served);
      if (last !== undefined) execFileSync("cp", ["-a", last, join(served, NAME)]);
      const port = freePort();
      const config = join(folder, "rsyncd.conf");
      writeFileSync(
        config,
        `use chroot=no\nport=${port}\naddress=127.0.0.1\nuid=root\ngid=root\n[all]\npath=${served}\nread only=no\n`,
      );
      const command = ["rsync", "--daemon", "--no-detach", `--config=${config}`];
      const { server } = await ServerProcess.start(command, port);
      const moving = (isTree: boolean, from: string, to: string): string[] => {
        const slash = isTree ? "/" : "";
        return ["rsync", "-a", ...(isTree ? ["--delete"] : []), ...flags, from + slash, to + slash];
      };
      const url = (reached: number): string => `rsync://127.0.0.1:${reached}/all/${NAME}`;
      return {
        server,
        port,
        get: (target, reached) =>
          moving(last !== undefined && statSync(last).isDirectory(), url(reached), target),
        put: (source, reached) => moving(statSync(source).isDirectory(), source, url(reached)),
      };
    },
  };
}

let lastPort = 17_400;

/** In a network of its own nobody else listens. */
export function freePort(): number {
  return ++lastPort;
}
