/**
 * A function over records, and its locals: where it is, the value that it looks at, and the state's numbers, which stand in
 * memory between calls.
 *
 *   address 0   count      i64     records that passed
 *           8   low        i64     of sums, and XOR: value = high · 2^32 + low
 *           16  high       i64
 *           24  extreme    i64 or f64
 *           64  bins       4 × 256 × u32, of histograms: four tables, so that equal bytes do not wait for one another
 */
import { ColumnType, isFloat, wideTypeOf } from "../column-type.ts";
import { Aggregate } from "../format.ts";
import type { Code } from "../format.ts";
import { FunctionBody, ValueType } from "./assembler.ts";

export const Address = { count: 0, low: 8, high: 16, extreme: 24, bins: 64 } as const;
export const BIN_TABLES = 4;
/** What a module takes of its memory for itself. */
export const KERNEL_BYTES = 8192;

export class Registers {
  readonly code: Code;
  /** The function's instructions. */
  readonly f: FunctionBody = new FunctionBody(2);
  readonly start = 0;
  readonly end = 1;
  /** Where the record that is looked at begins and, of lines, ends. */
  readonly at: number = this.f.local(ValueType.i32);
  readonly behind: number = this.f.local(ValueType.i32);
  /** What was loaded of it: an integer of 32 bits, of 64, or a float. */
  readonly value: number = this.f.local(ValueType.i32);
  readonly wide: number = this.f.local(ValueType.i64);
  readonly real: number = this.f.local(ValueType.f64);
  readonly count: number = this.f.local(ValueType.i64);
  readonly low: number = this.f.local(ValueType.i64);
  readonly high: number = this.f.local(ValueType.i64);
  readonly extreme: number = this.f.local(ValueType.i64);
  readonly extremeReal: number = this.f.local(ValueType.f64);
  /** A bit for each of sixteen places. */
  readonly bits: number = this.f.local(ValueType.i32);
  /** Where what a line is to end with would begin. */
  readonly ending: number = this.f.local(ValueType.i32);

  constructor(code: Code) {
    this.code = code;
  }

  /** Takes the state's numbers from memory. */
  loadState(): void {
    const f = this.f;
    f.get(this.start).set(this.at);
    f.i32(0).memory("i64.load", Address.count).set(this.count);
    f.i32(0).memory("i64.load", Address.low).set(this.low);
    f.i32(0).memory("i64.load", Address.high).set(this.high);
    f.i32(0).memory("i64.load", Address.extreme).set(this.extreme);
    f.i32(0).memory("f64.load", Address.extreme).set(this.extremeReal);
  }

  /** Puts them back there. */
  storeState(): void {
    const f = this.f;
    const { aggregate, type } = this.code;
    f.i32(0).get(this.count).memory("i64.store", Address.count);
    if (aggregate === Aggregate.MIN || aggregate === Aggregate.MAX) {
      if (isFloat(type)) f.i32(0).get(this.extremeReal).memory("f64.store", Address.extreme);
      else f.i32(0).get(this.extreme).memory("i64.store", Address.extreme);
      return;
    }
    if (isFloat(type)) return void f.i32(0).get(this.extremeReal).memory("f64.store", Address.extreme);
    if (aggregate === Aggregate.SUM || aggregate === Aggregate.MEAN) {
      // What is more than 32 bits of the low half moves up, so that neither half ever overflows within a call.
      f.get(this.high).get(this.low).i64(32n).op("i64.shr_s", "i64.add").set(this.high);
      f.get(this.low).i64(0xffffffffn).op("i64.and").set(this.low);
    }
    f.i32(0).get(this.low).memory("i64.store", Address.low);
    f.i32(0).get(this.high).memory("i64.store", Address.high);
  }

  /** Puts a column of the row at `at` into the local of its kind. */
  loadColumn(type: ColumnType, offset: number): void {
    const f = this.f;
    f.get(this.at);
    switch (type) {
      case ColumnType.u8:
        return void f.memory("i32.load8_u", offset).set(this.value);
      case ColumnType.i8:
        return void f.memory("i32.load8_s", offset).set(this.value);
      case ColumnType.u16:
        return void f.memory("i32.load16_u", offset).set(this.value);
      case ColumnType.i16:
        return void f.memory("i32.load16_s", offset).set(this.value);
      case ColumnType.u32:
      case ColumnType.i32:
        return void f.memory("i32.load", offset).set(this.value);
      case ColumnType.u64:
      case ColumnType.i64:
        return void f.memory("i64.load", offset).set(this.wide);
      case ColumnType.f32:
        return void f.memory("f32.load", offset).op("f64.promote_f32").set(this.real);
      case ColumnType.f64:
        return void f.memory("f64.load", offset).set(this.real);
    }
  }

  /** Leaves 1 on the stack where the value that was loaded lies in a range. */
  isInRanges(type: ColumnType): void {
    const f = this.f;
    for (const [index, { low, high }] of this.code.ranges.entries()) {
      if (isFloat(type)) {
        f.get(this.real).f64(Number(low)).op("f64.ge");
        f.get(this.real).f64(Number(high)).op("f64.le", "i32.and");
      } else if (type === ColumnType.u64 || type === ColumnType.i64) {
        // Whether signed or not, a range is as many values behind its lowest.
        f.get(this.wide)
          .i64(BigInt(low))
          .op("i64.sub")
          .i64(BigInt(high) - BigInt(low))
          .op("i64.le_u");
      } else {
        f.get(this.value)
          .i32(Number(low))
          .op("i32.sub")
          .i32(Number(high) - Number(low))
          .op("i32.le_u");
      }
      if (index > 0) f.op("i32.or");
    }
  }

  /** Aggregates the value that was loaded. */
  addValue(type: ColumnType): void {
    const f = this.f;
    const { aggregate } = this.code;
    if (isFloat(type)) return this.#addReal();
    if (aggregate === Aggregate.HISTOGRAM) {
      const bin = (): void => void f.get(this.value).i32(2).op("i32.shl");
      bin();
      bin();
      f.memory("i32.load", Address.bins).i32(1).op("i32.add").memory("i32.store", Address.bins);
      return;
    }
    const isWide = type === ColumnType.u64 || type === ColumnType.i64;
    const isUnsigned = wideTypeOf(type) === ColumnType.u64;
    if (!isWide) {
      f.get(this.value)
        .op(isUnsigned ? "i64.extend_i32_u" : "i64.extend_i32_s")
        .set(this.wide);
    }
    switch (aggregate) {
      case Aggregate.SUM:
      case Aggregate.MEAN:
        f.get(this.low).get(this.wide);
        if (isWide) f.i64(0xffffffffn).op("i64.and");
        f.op("i64.add").set(this.low);
        if (!isWide) return;
        f.get(this.high)
          .get(this.wide)
          .i64(32n)
          .op(isUnsigned ? "i64.shr_u" : "i64.shr_s");
        return void f.op("i64.add").set(this.high);
      case Aggregate.MIN:
      case Aggregate.MAX: {
        const isMin = aggregate === Aggregate.MIN;
        f.get(this.wide).get(this.extreme).get(this.wide).get(this.extreme);
        if (isUnsigned) f.op(isMin ? "i64.lt_u" : "i64.gt_u");
        else f.op(isMin ? "i64.lt_s" : "i64.gt_s");
        return void f.op("select").set(this.extreme);
      }
      case Aggregate.XOR:
        return void f.get(this.low).get(this.wide).op("i64.xor").set(this.low);
    }
  }

  /** Sums of floats are kept where extremes are: one after the other, as their order says. */
  #addReal(): void {
    const { aggregate } = this.code;
    const isMin = aggregate === Aggregate.MIN;
    const isExtreme = isMin || aggregate === Aggregate.MAX;
    const f = this.f.get(this.extremeReal).get(this.real);
    f.op(isExtreme ? (isMin ? "f64.min" : "f64.max") : "f64.add").set(this.extremeReal);
  }

  /** Counts the row at `at`, and aggregates its column. */
  addRow(): void {
    const { type, offset } = this.code;
    const f = this.f;
    f.get(this.count).i64(1n).op("i64.add").set(this.count);
    if (type === 0) return;
    this.loadColumn(type, offset);
    this.addValue(type);
  }
}
