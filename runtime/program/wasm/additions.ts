/** The functions that a WebAssembly module gets beside its own: see rewriter.ts. */
import type { Sink, WasmBytes } from "./bytes.ts";

export interface Additions {
  /** Pages that its memory says it has at first, and has. */
  readonly initialPages: number;
  readonly memoryPages: number;
  readonly pagesGlobal: number;
  readonly imageBytes: number;
  readonly marksAt: number;
  readonly granuleBits: number;
  /** Globals that change, and the instructions that give their first values. */
  readonly changing: readonly { readonly global: number; readonly value: Uint8Array }[];
}

export interface WasmAdditions {
  /** Of the functions: (i32) → i32, (i32, i32) → nothing, nothing → nothing. */
  readonly types: readonly number[];
  /** Appends the bodies of grow, mark and restore to `code`. */
  readonly put: (code: Sink, additions: Additions) => void;
}

export function makeWasmAdditions({
  makeSink,
  put,
  putAll,
  putU32,
  putI32,
  written,
}: WasmBytes): WasmAdditions {
  const I32 = 0x7f;
  const PAGE_BYTES = 65536;
  /** What any store may reach behind the granule that it begins in. */
  const STORE_BYTES_MAX = 16;

  function putAdditions(code: Sink, additions: Additions): void {
    const { initialPages, memoryPages, pagesGlobal, imageBytes, marksAt, granuleBits, changing } = additions;
    const granules = memoryPages * (PAGE_BYTES >> granuleBits);

    /** Stores a byte, which lies on the number of a granule, into the marks. */
    function putMark(body: Sink): void {
      put(body, 0x3a, 0x40, 1);
      putU32(body, marksAt);
    }

    function putBody(locals: readonly number[], ops: (body: Sink) => void): void {
      const body = makeSink(256);
      put(body, locals.length, ...locals.flatMap((type) => [1, type]));
      ops(body);
      put(body, 0x0b);
      putU32(code, body.length);
      putAll(code, written(body));
    }

    function constant(body: Sink, value: number): void {
      put(body, 0x41);
      putI32(body, value);
    }

    function pages(body: Sink, op: 0x23 | 0x24): void {
      put(body, op);
      putU32(body, pagesGlobal);
    }

    // grow(pages) → the pages there were, or -1
    putBody([I32], (body) => {
      pages(body, 0x23);
      put(body, 0x21, 1);
      constant(body, memoryPages);
      // if (pages > max - before) return -1
      put(body, 0x20, 1, 0x6b, 0x20, 0, 0x49, 0x04, 0x40);
      constant(body, -1);
      put(body, 0x0f, 0x0b, 0x20, 1, 0x20, 0, 0x6a);
      pages(body, 0x24);
      put(body, 0x20, 1);
    });

    // mark(place, length)
    putBody([], (body) => {
      // if (length != 0) memory.fill(marks, place >> bits, 1, ((place + length - 1) >> bits) - (place >> bits) + 1)
      put(body, 0x20, 1, 0x04, 0x40);
      put(body, 0x20, 0, 0x41, granuleBits, 0x76);
      constant(body, marksAt);
      put(body, 0x6a, 0x41, 1);
      put(body, 0x20, 0, 0x20, 1, 0x6a, 0x41, 1, 0x6b, 0x41, granuleBits, 0x76);
      put(body, 0x20, 0, 0x41, granuleBits, 0x76, 0x6b, 0x41, 1, 0x6a);
      put(body, 0xfc, 11, 1, 0x0b);
    });

    // restore()
    putBody([I32, I32, I32, I32], (body) => {
      const [granule, first, place, bytes] = [0, 1, 2, 3] as const;
      const memoryBytes = memoryPages * PAGE_BYTES;
      const markOf = (op: readonly number[]): void => {
        put(body, ...op);
        putU32(body, marksAt);
      };
      put(body, 0x02, 0x40, 0x03, 0x40);
      // while (granule < granules)
      put(body, 0x20, granule);
      constant(body, granules);
      put(body, 0x4f, 0x0d, 1);
      // 64 that are clean are passed at once
      for (let part = 0; part < 4; part++) {
        put(body, 0x20, granule, 0xfd, 0, 0x40, 1);
        putU32(body, marksAt + part * 16);
      }
      put(body, 0xfd, 0x50, 0xfd, 0x50, 0xfd, 0x50, 0xfd, 0x53, 0x45, 0x04, 0x40);
      put(body, 0x20, granule, 0x41);
      putI32(body, 64);
      put(body, 0x6a, 0x21, granule, 0x0c, 1, 0x0b);
      put(body, 0x20, granule);
      markOf([0x2d, 0x40, 1]);
      put(body, 0x45, 0x04, 0x40, 0x20, granule, 0x41, 1, 0x6a, 0x21, granule, 0x0c, 1, 0x0b);
      // a run of granules that are not
      put(body, 0x20, granule, 0x21, first, 0x03, 0x40, 0x20, granule, 0x41, 0);
      putMark(body);
      put(body, 0x20, granule, 0x41, 1, 0x6a, 0x22, granule);
      constant(body, granules);
      put(body, 0x49, 0x04, 0x40, 0x20, granule);
      markOf([0x2d, 0x40, 1]);
      put(body, 0x0d, 1, 0x0b, 0x0b);
      // place = first << bits; bytes = min((granule << bits) + what a store may reach beyond, all) - place
      put(body, 0x20, first, 0x41, granuleBits, 0x74, 0x21, place);
      put(body, 0x20, granule, 0x41, granuleBits, 0x74, 0x41, STORE_BYTES_MAX, 0x6a, 0x21, bytes);
      put(body, 0x20, bytes);
      constant(body, memoryBytes);
      put(body, 0x20, bytes);
      constant(body, memoryBytes);
      put(body, 0x49, 0x1b, 0x20, place, 0x6b, 0x21, bytes);
      // what the image has of it
      if (imageBytes > 0) {
        const copied = first;
        put(body, 0x20, place);
        constant(body, imageBytes);
        put(body, 0x49, 0x04, 0x40);
        constant(body, imageBytes);
        put(body, 0x20, place, 0x6b, 0x22, copied, 0x20, bytes, 0x20, copied, 0x20, bytes);
        put(body, 0x49, 0x1b, 0x21, copied);
        put(body, 0x20, place, 0x20, place, 0x20, copied, 0xfc, 10, 0, 1);
        put(body, 0x20, place, 0x20, copied, 0x6a, 0x21, place);
        put(body, 0x20, bytes, 0x20, copied, 0x6b, 0x21, bytes, 0x0b);
      }
      put(body, 0x20, place, 0x41, 0, 0x20, bytes, 0xfc, 11, 0);
      put(body, 0x0c, 0, 0x0b, 0x0b);
      for (let each = 0; each < changing.length; each++) {
        const { global, value } = changing[each]!;
        putAll(body, value);
        put(body, 0x24);
        putU32(body, global);
      }
      constant(body, initialPages);
      pages(body, 0x24);
    });
  }

  return { types: [0x60, 1, I32, 1, I32, 0x60, 2, I32, I32, 0, 0x60, 0, 0], put: putAdditions };
}
