/** TextDecoder and TextEncoder for programs, as far as UTF-8 goes. */
import type { Primordials } from "./primordials.ts";
import type { TextCodec } from "./text-codec.ts";

export function installTextGlobals(p: Primordials, codec: TextCodec): void {
  const NAMES = ["utf-8", "utf8", "unicode-1-1-utf-8", "unicode11utf8", "unicode20utf8", "x-unicode20utf8"];
  const EMPTY = new p.Uint8Array(0);

  /** A view of the bytes of any buffer or view. */
  function viewOf(source: unknown): Uint8Array {
    if (source === undefined) return EMPTY;
    if (p.arrayKind(source) === "Uint8Array") return source as Uint8Array;
    if (ArrayBuffer.isView(source))
      return new p.Uint8Array(source.buffer, source.byteOffset, source.byteLength);
    return new p.Uint8Array(source as ArrayBuffer, 0, p.bufferLength(source as ArrayBuffer));
  }

  class Utf8Decoder {
    readonly encoding = "utf-8";
    readonly fatal: boolean;
    readonly ignoreBOM: boolean;
    /** Bytes of a character whose rest is still to come. */
    #held = EMPTY;
    #begun = false;

    constructor(label = "utf-8", options: { fatal?: boolean; ignoreBOM?: boolean } = {}) {
      if (!NAMES.includes(`${label}`.trim().toLowerCase()))
        throw new p.RangeError(`the encoding "${label}" is not supported: only utf-8 is`);
      this.fatal = Boolean(options.fatal);
      this.ignoreBOM = Boolean(options.ignoreBOM);
    }

    decode(source?: unknown, options: { stream?: boolean } = {}): string {
      let bytes = viewOf(source);
      if (this.#held.length > 0) {
        const joined = new p.Uint8Array(this.#held.length + bytes.length);
        p.bytesSet(joined, this.#held);
        p.bytesSet(joined, bytes, this.#held.length);
        bytes = joined;
      }
      const stream = options.stream === true;
      const end = bytes.length - (stream ? codec.cutOff(bytes, 0, bytes.length) : 0);
      this.#held = end === bytes.length ? EMPTY : new p.Uint8Array(bytes).slice(end);
      const text = codec.decode(bytes, 0, end);
      const begun = this.#begun;
      this.#begun = stream && (begun || end > 0);
      if (this.fatal && p.indexOf(text, "\ufffd") >= 0 && !sameBytes(text, bytes, end)) {
        throw new p.TypeError("the bytes are not valid UTF-8");
      }
      return begun || this.ignoreBOM || p.charCodeAt(text, 0) !== 0xfeff ? text : p.slice(text, 1);
    }
  }

  /** U+FFFD in the text may also have been in the bytes. */
  function sameBytes(text: string, bytes: Uint8Array, end: number): boolean {
    const encoded = new p.Uint8Array(text.length * 3);
    if (codec.encode(text, encoded, 0) !== end) return false;
    for (let index = 0; index < end; index++) if (encoded[index] !== bytes[index]) return false;
    return true;
  }

  class Utf8Encoder {
    readonly encoding = "utf-8";

    encode(text = ""): Uint8Array {
      const string = `${text}`;
      const bytes = new p.Uint8Array(codec.encodedLength(string));
      codec.encode(string, bytes, 0);
      return bytes;
    }

    encodeInto(text: string, target: Uint8Array): { read: number; written: number } {
      const string = `${text}`;
      const room = target.length;
      let read = 0;
      let written = 0;
      while (read < string.length) {
        const units = (p.charCodeAt(string, read) & 0xfc00) === 0xd800 && read + 1 < string.length ? 2 : 1;
        const part = p.slice(string, read, read + units);
        const bytes = codec.encodedLength(part);
        if (written + bytes > room) break;
        codec.encode(part, target, written);
        written += bytes;
        read += units;
      }
      return { read, written };
    }
  }

  const define = (name: string, value: unknown): void => {
    p.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
  };
  p.defineProperty(Utf8Decoder, "name", { value: "TextDecoder" });
  p.defineProperty(Utf8Encoder, "name", { value: "TextEncoder" });
  define("TextDecoder", Utf8Decoder);
  define("TextEncoder", Utf8Encoder);
}
