/**
 * The program's module, which is a function here: it is called once per packet, so that module scope and everything that
 * is reachable from it is fresh, and no packet finds what another left there.
 */
import type { PacketLog } from "./console.ts";
import type { Randomness } from "./random.ts";
import type { ProgramApi, Tables } from "./tables.ts";

/** A bundle: it leaves what the module exports by default in `exports.default`. */
export type ModuleFactory = (exports: { default?: unknown }, packetfs: ProgramApi) => void;

export interface ProgramModule {
  /** Evaluates it: what it exports by default. Throws what the module throws. */
  evaluate(): unknown;
}

export interface ModuleTools {
  readonly tables: Tables;
  readonly random: Randomness;
  readonly log: PacketLog;
}

export function makeModule(factory: ModuleFactory, { tables, random, log }: ModuleTools): ProgramModule {
  return {
    evaluate() {
      const exports: { default?: unknown } = {};
      // What a module draws while it is evaluated does not depend on the packet that it is evaluated for.
      random.fix(true);
      tables.begin();
      try {
        factory(exports, tables.api);
      } finally {
        tables.end();
        random.fix(false);
        // Each packet would say it again.
        log.begin();
      }
      return exports.default;
    },
  };
}
