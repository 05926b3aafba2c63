/**
 * The functions of a WebAssembly module, instruction by instruction: most are copied as they are, stores and what makes NaNs are
 * written with more around them (see rewriter.ts), and what is not known is refused.
 */
import type { Cursor, Sink, WasmBytes } from "./bytes.ts";

/** What instructions name by number: how much of it the module has itself, and what was added behind that. */
export interface ModuleNumbers {
  readonly types: number;
  readonly functions: number;
  readonly tables: number;
  readonly globals: number;
  readonly elements: number;
  readonly segments: number;
  readonly pagesGlobal: number;
  readonly growFunction: number;
  readonly markFunction: number;
  /** See RewrittenModule. */
  readonly marksAt: number;
  readonly granuleBits: number;
}

export interface Instructions {
  /** Rewrites the function that stands at the cursor, up to its end, and appends it to `code`. */
  readonly putFunction: (code: Sink, parameters: number) => void;
  /** Whether a function was met that may change tables or drop segments. */
  readonly wearsOut: () => boolean;
}

export type MakeInstructions = (cursor: Cursor, numbers: ModuleNumbers) => Instructions;

export function makeWasmInstructions({
  makeSink,
  put,
  putAll,
  putRange,
  putU32,
  putI32,
  written,
}: WasmBytes): MakeInstructions {
  // As V8 has them.
  const LOCALS_MAX = 50000;
  const [I32, I64, F32, F64, V128] = [0x7f, 0x7e, 0x7d, 0x7c, 0x7b];
  const NAN_F32 = [0x00, 0x00, 0xc0, 0x7f];
  const NAN_F64 = [0, 0, 0, 0, 0, 0, 0xf8, 0x7f];
  /** SIMD operations on f32x4 and f64x2 that make NaNs. */
  const NAN_F32X4 = new Set([0x5e, 0x67, 0x68, 0x69, 0x6a, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9]);
  const NAN_F64X2 = new Set([0x5f, 0x74, 0x75, 0x7a, 0x94, 0xef, 0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5]);

  return (cursor, numbers) => {
    const refuse: Cursor["refuse"] = cursor.refuse;
    const { module, damaged, byte, skip, u32, skipSigned, count, index, valueType, isValueType } = cursor;
    const { types, functions, tables, globals, elements, segments } = numbers;
    const { pagesGlobal, growFunction, markFunction, marksAt, granuleBits } = numbers;
    let wearsOut = false;

    function putFunction(code: Sink, parameters: number): void {
      const groups = count();
      const header = cursor.at;
      let locals = parameters;
      for (let group = 0; group < groups; group++) {
        locals += u32();
        valueType();
        if (locals > LOCALS_MAX) refuse("has a function of too many variables");
      }
      const headerBytes = module.subarray(header, cursor.at);
      const body = makeSink((cursor.end - cursor.at) * 2 + 16);
      const temporaries = rewriteCode(body, locals);
      const head = makeSink(32);
      putU32(head, groups + temporaries.length);
      putAll(head, headerBytes);
      for (let index = 0; index < temporaries.length; index++) put(head, 1, temporaries[index]!);
      putU32(code, head.length + body.length);
      putAll(code, written(head));
      putAll(code, written(body));
    }

    /** Copies instructions up to `end`; returns the types of variables that it has added, each behind the last. */
    function rewriteCode(body: Sink, locals: number): number[] {
      const temporaries: number[] = [];
      /** What the temporaries are for, in the same order. */
      const uses: string[] = [];
      /** From here on nothing is copied yet. */
      let from = cursor.at;

      function temporary(use: string, type: number): number {
        let found = uses.indexOf(use);
        if (found < 0) {
          found = uses.length;
          uses.push(use);
          temporaries.push(type);
        }
        return locals + found;
      }

      function copyUpTo(to: number): void {
        if (to > from) putRange(body, module, from, to);
        from = cursor.at;
      }

      function variable(op: 0x20 | 0x21 | 0x22, which: number): void {
        put(body, op);
        putU32(body, which);
      }

      /** Behind an operation: what it left, or the canonical NaN where that is none. */
      function canonical(type: number, constant: readonly number[], equal: readonly number[]): void {
        copyUpTo(cursor.at);
        const value = temporary(`nan${type}`, type);
        variable(0x22, value);
        put(body, ...constant);
        variable(0x20, value);
        variable(0x20, value);
        put(body, ...equal);
      }

      const canonicalF32 = (): void => canonical(F32, [0x43, ...NAN_F32], [0x5b, 0x1b]);
      const canonicalF64 = (): void => canonical(F64, [0x44, ...NAN_F64], [0x61, 0x1b]);
      const lanes = (nan: readonly number[]): number[] =>
        [0xfd, 0x0c].concat(...Array.from({ length: 16 / nan.length }, () => nan));

      /** In place of a store, whose address and value are there. */
      function store(start: number, type: number, offset: number): void {
        copyUpTo(start);
        const value = temporary(`value${type}`, type);
        const address = temporary("address", I32);
        variable(0x21, value);
        variable(0x22, address);
        if (offset > 0) {
          put(body, 0x41);
          putI32(body, offset);
          put(body, 0x6a);
        }
        put(body, 0x41, granuleBits, 0x76, 0x41, 1);
        put(body, 0x3a, 0x40, 1);
        putU32(body, marksAt);
        variable(0x20, address);
        variable(0x20, value);
        putRange(body, module, start, cursor.at);
      }

      /**
       * In place of what fills or copies: place, a second operand and length are there. It is marked first, since a call that
       * finds no stack must not leave unmarked what was written.
       */
      function bulk(start: number): void {
        copyUpTo(start);
        const place = temporary("place", I32);
        const other = temporary("other", I32);
        const length = temporary("length", I32);
        variable(0x21, length);
        variable(0x21, other);
        variable(0x22, place);
        variable(0x20, length);
        put(body, 0x10);
        putU32(body, markFunction);
        variable(0x20, place);
        variable(0x20, other);
        variable(0x20, length);
        putRange(body, module, start, cursor.at);
      }

      /** What a load or store says of its place. Returns the offset. */
      function memoryArgument(): number {
        const where = cursor.at;
        if (u32() > 16) refuse("names a memory that is not there", where);
        return u32();
      }

      function blockType(): void {
        const where = cursor.at;
        const type = byte();
        if (type === 0x40 || isValueType(type)) return;
        cursor.at = where;
        // A signed number, which is not negative: the number of a type.
        if ((type & 0xc0) === 0x40) refuse("uses a type of value that programs cannot have", where);
        const start = cursor.at;
        let value = 0;
        for (let shift = 0; ; shift += 7) {
          const next = byte();
          value += (next & 0x7f) * 2 ** shift;
          if (next < 0x80) {
            if ((next & 0x40) !== 0) damaged();
            break;
          }
          if (cursor.at - start === 5) damaged();
        }
        if (value >= types) refuse("names a type that is not there", where);
      }

      while (cursor.at < cursor.end) {
        const start = cursor.at;
        const op = byte();
        if (op >= 0x45 && op <= 0xc4) {
          if ((op >= 0x8d && op <= 0x97) || op === 0xb6) canonicalF32();
          else if ((op >= 0x9b && op <= 0xa5) || op === 0xbb) canonicalF64();
          continue;
        }
        if (op >= 0x20 && op <= 0x22) {
          index(locals, "variable");
          continue;
        }
        if (op >= 0x28 && op <= 0x35) {
          memoryArgument();
          continue;
        }
        if (op >= 0x36 && op <= 0x3e) {
          const type = op === 0x38 ? F32 : op === 0x39 ? F64 : op === 0x37 || op >= 0x3c ? I64 : I32;
          store(start, type, memoryArgument());
          continue;
        }
        switch (op) {
          case 0x00:
          case 0x01:
          case 0x05:
          case 0x0b:
          case 0x0f:
          case 0x1a:
          case 0x1b:
          case 0xd1:
            break;
          case 0x02:
          case 0x03:
          case 0x04:
            blockType();
            break;
          case 0x0c:
          case 0x0d:
            u32();
            break;
          case 0x0e:
            for (let targets = count(); targets >= 0; targets--) u32();
            break;
          case 0x10:
          case 0x12:
          case 0xd2:
            index(functions, "function");
            break;
          case 0x11:
          case 0x13:
            index(types, "type");
            index(tables, "table");
            break;
          case 0x1c:
            for (let results = count(); results > 0; results--) valueType();
            break;
          case 0x23:
          case 0x24:
            index(globals, "global");
            break;
          case 0x25:
            index(tables, "table");
            break;
          case 0x26:
            index(tables, "table");
            wearsOut = true;
            break;
          case 0x3f:
            if (byte() !== 0) refuse("names a memory that is not there", start);
            copyUpTo(start);
            put(body, 0x23);
            putU32(body, pagesGlobal);
            break;
          case 0x40:
            if (byte() !== 0) refuse("names a memory that is not there", start);
            copyUpTo(start);
            put(body, 0x10);
            putU32(body, growFunction);
            break;
          case 0x41:
            skipSigned(5);
            break;
          case 0x42:
            skipSigned(10);
            break;
          case 0x43:
            skip(4);
            break;
          case 0x44:
            skip(8);
            break;
          case 0xd0:
            valueType();
            break;
          case 0xfc:
            miscellaneous(start);
            break;
          case 0xfd:
            vector(start);
            break;
          case 0xfe:
            refuse("uses threads, whose answers depend on timing", start);
          case 0x06:
          case 0x07:
          case 0x08:
          case 0x09:
          case 0x0a:
          case 0x18:
          case 0x19:
          case 0x1f:
            refuse("uses exceptions: let errors end it", start);
          case 0xfb:
            refuse("uses garbage collection", start);
          default:
            refuse(`uses instruction 0x${op.toString(16)}, which is not known`, start);
        }
      }
      copyUpTo(cursor.end);

      function miscellaneous(start: number): void {
        const sub = u32();
        switch (sub) {
          case 8:
            index(segments, "data segment");
            if (byte() !== 0) refuse("names a memory that is not there", start);
            bulk(start);
            return;
          case 9:
            index(segments, "data segment");
            wearsOut = true;
            return;
          case 10:
            if (byte() !== 0 || byte() !== 0) refuse("names a memory that is not there", start);
            bulk(start);
            return;
          case 11:
            if (byte() !== 0) refuse("names a memory that is not there", start);
            bulk(start);
            return;
          case 12:
            index(elements, "element segment");
            index(tables, "table");
            wearsOut = true;
            return;
          case 13:
            index(elements, "element segment");
            wearsOut = true;
            return;
          case 14:
            index(tables, "table");
            index(tables, "table");
            wearsOut = true;
            return;
          case 16:
            index(tables, "table");
            return;
          case 15:
          case 17:
            index(tables, "table");
            wearsOut = true;
            return;
          default:
            if (sub > 7) refuse(`uses instruction 0xfc ${sub}, which is not known`, start);
        }
      }

      function vector(start: number): void {
        const sub = u32();
        if (sub > 0xff) refuse("uses relaxed SIMD, whose answers are the processor's", start);
        if (sub <= 0x0a || sub === 0x5c || sub === 0x5d) {
          memoryArgument();
        } else if (sub === 0x0b) {
          store(start, V128, memoryArgument());
        } else if (sub === 0x0c || sub === 0x0d) {
          skip(16);
        } else if (sub >= 0x15 && sub <= 0x22) {
          skip(1);
        } else if (sub >= 0x54 && sub <= 0x5b) {
          const offset = memoryArgument();
          skip(1);
          if (sub < 0x58) return;
          store(start, V128, offset);
        } else if (NAN_F32X4.has(sub)) {
          canonical(V128, lanes(NAN_F32), [0xfd, 0x41, 0xfd, 0x52]);
        } else if (NAN_F64X2.has(sub)) {
          canonical(V128, lanes(NAN_F64), [0xfd, 0x47, 0xfd, 0x52]);
        }
      }
      return temporaries;
    }

    return { putFunction, wearsOut: () => wearsOut };
  };
}
