/**
 * Ends a run that hangs. A test's time limit is a timer of its own process: it does not hold once that process stands
 * still, nor does it bound a file in which test after test waits for it. What hangs is named, with the processes that
 * were there, and the run fails. Tests that were given no time limit at all, to look for something for hours, are left alone.
 */
import { readFileSync, readdirSync } from "node:fs";
import type { Reporter, TestModule, Vitest } from "vitest/node";

/** Longer than any test may take: its own time limit comes first where its process still turns. */
const SILENT_MS = 25 * 60_000;
/** Of the whole run, on a machine that has much else to do as well. */
const RUN_MS = 80 * 60_000;
const LOOK_MS = 15_000;

interface ProcessEntry {
  readonly pid: number;
  readonly parent: number;
  /** Its state and what it waits for in the kernel, then its command. */
  readonly text: string;
}

function processEntry(pid: number): ProcessEntry | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // Behind its name, which may hold anything.
    const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").slice(0, 160);
    const waitsFor = readFileSync(`/proc/${pid}/wchan`, "latin1");
    return { pid, parent: Number(parent), text: `${state} ${waitsFor} ${command}` };
  } catch {
    // It has ended meanwhile.
    return undefined;
  }
}

/** Every process below this one, parents first; none where there is no /proc. */
function descendants(): ProcessEntry[] {
  let names: string[];
  try {
    names = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  } catch {
    return [];
  }
  const all = names.flatMap((name) => processEntry(Number(name)) ?? []);
  const found: ProcessEntry[] = [];
  for (let parents = [process.pid]; parents.length > 0;) {
    const children = all.filter(({ parent }) => parents.includes(parent));
    found.push(...children);
    parents = children.map(({ pid }) => pid);
  }
  return found;
}

export class HangReporter implements Reporter {
  /** When each file that runs last had a test end. */
  readonly #heardAt = new Map<string, number>();
  readonly #began = performance.now();
  #isLimited = true;
  #timer: NodeJS.Timeout | undefined;

  onInit({ config }: Vitest): void {
    this.#isLimited = config.testTimeout > 0;
  }

  onTestRunStart(): void {
    if (!this.#isLimited) return;
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
    this.#timer.unref();
  }

  onTestModuleQueued(module: TestModule): void {
    this.#heardAt.set(module.relativeModuleId, performance.now());
  }

  onTestCaseResult({ module: { relativeModuleId: file } }: { readonly module: TestModule }): void {
    // A busy machine may tell of a file's last test when the file has ended already.
    if (this.#heardAt.has(file)) this.#heardAt.set(file, performance.now());
  }

  onTestModuleEnd(module: TestModule): void {
    this.#heardAt.delete(module.relativeModuleId);
  }

  onTestRunEnd(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const now = performance.now();
    const silent = [...this.#heardAt].filter(([, at]) => now - at > SILENT_MS);
    if (silent.length === 0 && now - this.#began < RUN_MS) return;
    const lines = [...this.#heardAt].map(
      ([file, at]) => `  ${file}: ${Math.round((now - at) / 1000)} s without a test's end`,
    );
    const processes = descendants();
    console.error(`The run hangs. Files at work:\n${lines.join("\n")}\nProcesses:`);
    for (const { pid, parent, text } of processes) console.error(`  ${pid} of ${parent}: ${text}`);
    for (const { pid } of processes) kill(pid);
    process.exit(1);
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended meanwhile.
  }
}
