/**
 * Count, sum, mean, least and most of one column of a CSV file, for each value of another.
 *
 *   pfs put sales.csv
 *   pfs run examples/csv-aggregate.ts sales.csv --args '{"by":"city","of":"amount"}'
 */
import { csv, defineProgram } from "packetfs";

interface Args {
  /** The column whose values are the groups. */
  readonly by: string;
  /** The column of numbers; fields that hold none are left out. */
  readonly of: string;
}

interface Aggregate {
  readonly count: number;
  readonly sum: number;
  readonly min: number;
  readonly max: number;
}

export default defineProgram({
  input: csv({ header: true }),
  yields: "groups",
  init: (args: Args) => args,
  map: (row, { args, emit }) => {
    const group = row[args.by];
    const field = row[args.of];
    if (group === undefined || field === undefined) throw new Error(`no column ${args.by} or ${args.of}`);
    const value = Number(field);
    if (field.trim() === "" || Number.isNaN(value)) return;
    emit(group, { count: 1, sum: value, min: value, max: value });
  },
  combine: (a: Aggregate, b: Aggregate) => ({
    count: a.count + b.count,
    sum: a.sum + b.sum,
    min: Math.min(a.min, b.min),
    max: Math.max(a.max, b.max),
  }),
  reduce: (_group, [all]) => (all === undefined ? null : { ...all, mean: all.sum / all.count }),
});
