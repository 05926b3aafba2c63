/**
 * Partial results of groups as text: lines {"k":[keys],"v":[values]}, in buckets of the hashes of their keys, so that whoever
 * needs one partition of them finds it in a row (program/program.ts).
 */
import type { Output } from "./output.ts";
import type { Primordials } from "./primordials.ts";

export interface Partials {
  /** A packet begins. */
  begin(): void;
  /** Adds a value: a number that JSON can say, or a text. */
  add(key: string, value: number | string): void;
  /** Adds one to the bucket of its hash (32 bits): to be used for all values of a packet, or none. */
  addHashed(key: string, hash: number, value: number | string): void;
  /** Writes what was added. */
  end(): void;
}

/** What is not written yet. */
interface Bucket {
  keys: string[];
  values: (number | string)[];
  units: number;
  hasTexts: boolean;
  lines: string;
}

export interface PartialsTools {
  readonly output: Output;
  readonly bucketUnits: number;
}

export function makePartials(p: Primordials, { output, bucketUnits }: PartialsTools): Partials {
  const LINE_UNITS = 65536;
  const BUCKETS = 256;
  let whole = newBucket();
  let hashed: Bucket[] = [];

  function newBucket(): Bucket {
    return { keys: [], values: [], units: 0, hasTexts: false, lines: "" };
  }

  function put(bucket: Bucket, key: string, value: number | string): void {
    bucket.keys.push(key);
    bucket.values.push(value);
    if (typeof value === "string") {
      bucket.hasTexts = true;
      bucket.units += value.length;
    }
    bucket.units += key.length + 3;
    if (bucket.units > LINE_UNITS) flush(bucket);
  }

  /** JSON's own function takes a third of the time for what stands on a line together. */
  function flush(bucket: Bucket): void {
    const { keys, values } = bucket;
    if (keys.length === 0) return;
    let text = "";
    if (bucket.hasTexts) {
      for (let index = 0; index < values.length; index++) {
        const value = values[index]!;
        text += (index === 0 ? "[" : ",") + (typeof value === "string" ? value : `${value}`);
      }
      text += "]";
    } else text = p.stringify(values)!;
    bucket.lines += '{"k":' + p.stringify(keys)! + ',"v":' + text + "}\n";
    bucket.keys = [];
    bucket.values = [];
    bucket.units = 0;
    bucket.hasTexts = false;
  }

  function endBuckets(): void {
    let units = 0;
    let filled = 0;
    for (let index = 0; index < BUCKETS; index++) {
      const bucket = hashed[index]!;
      flush(bucket);
      units += bucket.lines.length;
      if (bucket.lines !== "") filled++;
    }
    // Of a partition there is nothing in the buckets of others.
    const wanted = (units / bucketUnits) * (BUCKETS / (filled === 0 ? 1 : filled));
    let count = 1;
    while (count < BUCKETS && count < wanted) count *= 2;
    for (let index = 0; index < BUCKETS; index++) {
      output.text(hashed[index]!.lines);
      if (count > 1 && (index + 1) % (BUCKETS / count) === 0) output.text("\n");
    }
  }

  return {
    begin() {
      // Most packets leave them as they were.
      if (whole.keys.length > 0 || whole.lines !== "") whole = newBucket();
      if (hashed.length > 0) hashed = [];
    },
    add: (key, value) => {
      put(whole, key, value);
      if (whole.lines === "") return;
      output.text(whole.lines);
      whole.lines = "";
    },
    addHashed(key, hash, value) {
      if (hashed.length === 0) for (let index = 0; index < BUCKETS; index++) hashed.push(newBucket());
      put(hashed[hash >>> 24]!, key, value);
    },
    end() {
      flush(whole);
      output.text(whole.lines);
      if (hashed.length > 0) endBuckets();
      whole.lines = "";
      hashed = [];
    },
  };
}
