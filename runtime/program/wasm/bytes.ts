/**
 * The bytes of WebAssembly modules, read and written. As all of this folder, it is carried into isolates as text, so each function
 * uses nothing but its parameters.
 */

/** Bytes that are being written. */
export interface Sink {
  bytes: Uint8Array<ArrayBuffer>;
  length: number;
}

/** Where in a module is being read. Whatever is wrong throws a TypeError that says what, and at which byte. */
export interface Cursor {
  readonly module: Uint8Array;
  at: number;
  /** Nothing is read from here on. */
  end: number;
  readonly refuse: (what: string, where?: number) => never;
  readonly damaged: () => never;
  readonly byte: () => number;
  readonly skip: (bytes: number) => void;
  readonly u32: () => number;
  readonly i32: () => number;
  /** Skips a signed number, whose value is V8's to look at. */
  readonly skipSigned: (bytesMax: number) => void;
  /** A count of things of which each takes a byte at least. */
  readonly count: () => number;
  /** A number below `of`, which is that of a `what`. */
  readonly index: (of: number, what: string) => number;
  readonly valueType: () => string;
  readonly isValueType: (code: number) => boolean;
  /** Undefined where it is not printable ASCII. */
  readonly name: () => string | undefined;
}

export interface WasmBytes {
  readonly makeSink: (capacity: number) => Sink;
  readonly put: (sink: Sink, ...bytes: readonly number[]) => void;
  readonly putAll: (sink: Sink, bytes: Uint8Array) => void;
  readonly putRange: (sink: Sink, bytes: Uint8Array, from: number, to: number) => void;
  /** Unsigned LEB128. */
  readonly putU32: (sink: Sink, value: number) => void;
  /** Signed LEB128 of the number whose lower 32 bits these are. */
  readonly putI32: (sink: Sink, value: number) => void;
  /** Of ASCII. */
  readonly putName: (sink: Sink, name: string) => void;
  readonly written: (sink: Sink) => Uint8Array<ArrayBuffer>;
  readonly makeCursor: (module: Uint8Array) => Cursor;
}

export function makeWasmBytes(): WasmBytes {
  const VALUE_TYPES = new Map([
    [0x7f, "i32"],
    [0x7e, "i64"],
    [0x7d, "f32"],
    [0x7c, "f64"],
    [0x7b, "v128"],
    [0x70, "funcref"],
    [0x6f, "externref"],
  ]);

  function makeSink(capacity: number): Sink {
    return { bytes: new Uint8Array(capacity), length: 0 };
  }

  function room(sink: Sink, bytes: number): void {
    if (sink.length + bytes <= sink.bytes.length) return;
    const larger = new Uint8Array(Math.max(sink.bytes.length * 2, sink.length + bytes));
    larger.set(sink.bytes.subarray(0, sink.length));
    sink.bytes = larger;
  }

  function put(sink: Sink, ...bytes: readonly number[]): void {
    room(sink, bytes.length);
    for (let index = 0; index < bytes.length; index++) sink.bytes[sink.length++] = bytes[index]!;
  }

  function putAll(sink: Sink, bytes: Uint8Array): void {
    room(sink, bytes.length);
    sink.bytes.set(bytes, sink.length);
    sink.length += bytes.length;
  }

  /** Most ranges are an instruction, for which a view would cost more than its bytes. */
  function putRange(sink: Sink, bytes: Uint8Array, from: number, to: number): void {
    if (to - from > 64) return putAll(sink, bytes.subarray(from, to));
    room(sink, to - from);
    for (let at = from; at < to; at++) sink.bytes[sink.length++] = bytes[at]!;
  }

  function putU32(sink: Sink, value: number): void {
    room(sink, 5);
    let rest = value;
    while (rest >= 0x80) {
      sink.bytes[sink.length++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    sink.bytes[sink.length++] = rest;
  }

  function putI32(sink: Sink, value: number): void {
    room(sink, 5);
    for (let rest = value | 0; ; rest >>= 7) {
      const isLast = rest >= -64 && rest < 64;
      sink.bytes[sink.length++] = (rest & 0x7f) | (isLast ? 0 : 0x80);
      if (isLast) return;
    }
  }

  function putName(sink: Sink, name: string): void {
    putU32(sink, name.length);
    for (let index = 0; index < name.length; index++) put(sink, name.charCodeAt(index));
  }

  function written(sink: Sink): Uint8Array<ArrayBuffer> {
    return sink.bytes.subarray(0, sink.length);
  }

  function makeCursor(module: Uint8Array): Cursor {
    function refuse(what: string, where: number = cursor.at): never {
      throw new TypeError(`the WebAssembly module ${what} (at byte ${where})`);
    }

    function damaged(): never {
      return refuse("is damaged");
    }

    function byte(): number {
      if (cursor.at >= cursor.end) damaged();
      return module[cursor.at++]!;
    }

    function skip(bytes: number): void {
      if (bytes > cursor.end - cursor.at) damaged();
      cursor.at += bytes;
    }

    function u32(): number {
      let value = 0;
      for (let shift = 0; ; shift += 7) {
        const next = byte();
        if (shift === 28 && next > 0x0f) damaged();
        value += (next & 0x7f) * 2 ** shift;
        if (next < 0x80) return value;
      }
    }

    function skipSigned(bytesMax: number): void {
      for (let count = 1; byte() >= 0x80; count++) if (count === bytesMax) damaged();
    }

    function count(): number {
      const value = u32();
      if (value > cursor.end - cursor.at) damaged();
      return value;
    }

    function index(of: number, what: string): number {
      const where = cursor.at;
      const value = u32();
      if (value >= of) refuse(`names a ${what} that is not there`, where);
      return value;
    }

    function valueType(): string {
      const where = cursor.at;
      const name = VALUE_TYPES.get(byte());
      return name ?? refuse("uses a type of value that programs cannot have", where);
    }

    function name(): string | undefined {
      const bytes = count();
      let text: string | undefined = "";
      for (let index = 0; index < bytes; index++) {
        const unit = byte();
        if (unit < 0x20 || unit > 0x7e) text = undefined;
        else if (text !== undefined) text += String.fromCharCode(unit);
      }
      return text;
    }

    function i32(): number {
      const start = cursor.at;
      let value = 0;
      for (let shift = 0; ; shift += 7) {
        const next = byte();
        value |= (next & 0x7f) << shift;
        if (next < 0x80) {
          if (shift < 28 && (next & 0x40) !== 0) value |= -1 << (shift + 7);
          return value;
        }
        if (cursor.at - start === 5) damaged();
      }
    }

    const cursor: Cursor = {
      module,
      at: 0,
      end: module.length,
      refuse,
      damaged,
      byte,
      skip,
      u32,
      i32,
      skipSigned,
      count,
      index,
      valueType,
      isValueType: (code) => VALUE_TYPES.has(code),
      name,
    };
    return cursor;
  }

  return { makeSink, put, putAll, putRange, putU32, putI32, putName, written, makeCursor };
}
