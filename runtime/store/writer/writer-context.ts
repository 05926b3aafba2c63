/** What the parts of a store's writer share. */
import type { Commits } from "./commits.ts";
import type { Disk } from "../disk.ts";
import type { IndexTables } from "../index/index-tables.ts";
import type { SegmentWriter } from "../segments/segment-writer.ts";
import type { OpenWriters } from "./open-writers.ts";
import type { StorePaths } from "../store-directory.ts";

export interface WriterContext {
  readonly paths: StorePaths;
  readonly disk: Disk;
  readonly segments: SegmentWriter;
  readonly commits: Commits;
  readonly writers: OpenWriters;
  /** Another object after the index was built again: read it anew after each await. */
  readonly tables: IndexTables;
  /** A sequence for the next record. */
  nextSequence(): number;
}
