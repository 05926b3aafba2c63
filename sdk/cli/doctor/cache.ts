/** What pfs doctor finds of what commands remember of files that they stored at hubs and fetched: where that is, and how much. */
import type { ClientMemoryOptions } from "../../memory/client-memory.ts";
import { formatBytes } from "../format.ts";
import { ok } from "./check.ts";
import type { Check } from "./check.ts";

export async function cacheChecks(
  bytesMax: ClientMemoryOptions["bytesMax"],
  directory?: string,
): Promise<Check[]> {
  const { ClientMemory } = await import("../../memory/client-memory.ts");
  using memory = await ClientMemory.open({ directory, bytesMax });
  const { bytes, bytesMax: most } = await memory.usage();
  const bound = most === 0 ? "no more is kept" : `at most ${formatBytes(most)}`;
  return [
    ok("cache", "directory", memory.directory),
    ok("cache", "size", `${formatBytes(bytes)}, ${bound}; pfs gc --cache empties it`),
  ];
}
