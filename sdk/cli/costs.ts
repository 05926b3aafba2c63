/** --dry-run of put and get: what files would move. */
import type { Option } from "commander";
import type { TransferCost } from "../packetfs.ts";
import type { Context } from "./context.ts";
import { formatBytes, printable } from "./format.ts";
import { option } from "./options.ts";
import type { Column, ListItem } from "./output.ts";

const COLUMNS: readonly Column[] = [
  { title: "NAME", shrinks: true },
  { title: "SIZE", align: "right" },
  { title: "NEW", align: "right" },
  { title: "SENT", align: "right" },
  { title: "RECEIVED", align: "right" },
];

/** `what` completes "say …". */
export function dryRunOption(what: string): Option {
  return option("--dry-run", `say ${what}`, "PACKETFS_DRY_RUN");
}

/** A row for each of the files, in bytes where nobody looks at a terminal. What was found of a sample is told as "about". */
export async function listCosts<File extends { readonly name: string }>(
  { output }: Context,
  files: readonly File[],
  costOf: (file: File) => Promise<TransferCost>,
): Promise<void> {
  const { isTerminal } = output;
  async function* items(): AsyncGenerator<ListItem> {
    for (const file of files) {
      output.status(`finding out what ${printable(file.name)} would cost …`);
      const cost = await costOf(file);
      output.status("");
      const { length, newBytes, wireBytes, exact } = cost;
      const amount = (bytes: number, isSure = true): string =>
        isTerminal ? `${isSure ? "" : "about "}${formatBytes(bytes)}` : String(bytes);
      yield {
        cells: [
          printable(file.name),
          amount(length),
          amount(newBytes),
          amount(wireBytes.sent, exact || wireBytes.sent === 0),
          amount(wireBytes.received, exact || wireBytes.received === 0),
        ],
        json: { name: file.name, dryRun: true, ...cost },
      };
    }
  }
  await output.list(COLUMNS, items());
}
