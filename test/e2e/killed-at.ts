/**
 * Loaded into a process before its own code (`node --import`): it kills the process with SIGKILL at the n-th change that it
 * makes to its disk, before the change or just after it. Changes are counted over all threads: writes, synchronisations, names
 * made, moved and removed, files opened to be written, statements of SQLite. The same command on the same files is killed at
 * the same place again, as far as its threads take the same turns.
 *
 *   PACKETFS_TEST_KILL_AT=N[+]       from its start, + for just after
 *   PACKETFS_TEST_KILL_FILE=PATH     on SIGUSR2, counted from then on, by what the file holds, which it removes
 */
import fs from "node:fs";
import promises from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import sqlite from "node:sqlite";
import workers from "node:worker_threads";

const KEY = "packetfs-test-kill";
/** Changes left until the process is killed, 0 for never; and 1 where that is just after. */
const state = shared();

function shared(): Int32Array {
  if (!workers.isMainThread) return new Int32Array(workers.getEnvironmentData(KEY) as SharedArrayBuffer);
  const memory = new SharedArrayBuffer(8);
  workers.setEnvironmentData(KEY, memory);
  return new Int32Array(memory);
}

function arm(text: string): void {
  Atomics.store(state, 1, text.endsWith("+") ? 1 : 0);
  Atomics.store(state, 0, Number.parseInt(text, 10));
}

/** Counts a change. Returns whether the process is to die of it once it is made. */
function isLast(): boolean {
  if (Atomics.load(state, 0) <= 0 || Atomics.sub(state, 0, 1) !== 1) return false;
  if (Atomics.load(state, 1) === 0) process.kill(process.pid, "SIGKILL");
  return true;
}

const die = (): void => void process.kill(process.pid, "SIGKILL");

type Call = (this: unknown, ...values: unknown[]) => unknown;

/** Has the methods of these names count, those that `counts` says of their values. */
function watch(
  owner: object,
  names: readonly string[],
  counts: (values: unknown[]) => boolean = () => true,
): void {
  const methods = owner as Record<string, Call>;
  for (const name of names) {
    const original = methods[name];
    if (original === undefined) throw new Error(`there is no ${name}`);
    methods[name] = function watched(...values) {
      if (!counts(values) || !isLast()) return original.apply(this, values);
      const answer = original.apply(this, values);
      if (!(answer instanceof Promise)) return die();
      return answer.finally(die);
    };
  }
}

/** Whether a file is opened to be written. */
function writes([, flags]: unknown[]): boolean {
  if (typeof flags === "number") return (flags & (fs.constants.O_WRONLY | fs.constants.O_RDWR)) !== 0;
  return typeof flags === "string" && flags !== "r";
}

const NAMES = ["rename", "unlink", "rm", "link", "mkdir", "mkdtemp", "writeFile", "appendFile", "truncate"];
watch(promises, NAMES);
watch(promises, ["open"], writes);
{
  const handle = await promises.open("/dev/null");
  const methods = Object.getPrototypeOf(handle) as object;
  watch(methods, ["write", "writev", "writeFile", "sync", "datasync", "truncate"]);
  await handle.close();
}
const ofDescriptors = ["writeSync", "writevSync", "fsyncSync", "fdatasyncSync", "ftruncateSync"];
watch(fs, [...NAMES.map((name) => `${name}Sync`), ...ofDescriptors]);
watch(fs, ["openSync"], writes);
watch(sqlite.DatabaseSync.prototype, ["exec"]);
watch(sqlite.StatementSync.prototype, ["run"]);

if (workers.isMainThread) {
  const { Worker } = workers;
  workers.Worker = class extends Worker {
    constructor(url: string | URL, options: workers.WorkerOptions = {}) {
      super(url, { ...options, execArgv: [...(options.execArgv ?? []), "--import", import.meta.url] });
    }
  };
  arm(process.env["PACKETFS_TEST_KILL_AT"] ?? "0");
  const file = process.env["PACKETFS_TEST_KILL_FILE"];
  if (file !== undefined) {
    process.on("SIGUSR2", () => {
      const text = fs.readFileSync(file, "utf8");
      fs.unlinkSync(file);
      arm(text);
    });
  }
}
syncBuiltinESMExports();
