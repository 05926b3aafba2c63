import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";
import type { ViteUserConfig } from "vitest/config";
import { HangReporter } from "./test/hang-reporter.ts";

if (!process.versions.node.startsWith("24.")) {
  throw new Error(`tests need Node 24, this is ${process.version}; run them with "npm test"`);
}

// What tests start in threads and processes is built; once here, and not by each of their files.
(
  createRequire(import.meta.url)("./runtime/build/current.mjs") as { builtFolder: () => string }
).builtFolder();

const HANGING_MS = 600_000;

const config: ViteUserConfig = defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    pool: "forks",
    // isolated-vm needs this flag in the process that loads it.
    execArgv: ["--no-node-snapshot"],
    // Many tests wait for processes, and vitest would leave a core to itself that it hardly uses.
    maxWorkers: availableParallelism() + 1,
    // Nothing is decided by it: it ends what hangs, and on a busy machine nothing else.
    testTimeout: HANGING_MS,
    hookTimeout: HANGING_MS,
    reporters: ["default", new HangReporter()],
  },
});
export default config;
