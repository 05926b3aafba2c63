// Counts words: what stands between spaces and line ends. A program by itself, in AssemblyScript.
//
//   asc count-words.ts --outFile count-words.wasm -O3 --runtime stub --use abort=
//   pfs run count-words.wasm book.txt

export { alloc } from "./packetfs";

/** Each byte above a space is of a word, and each such byte behind one that is not begins a word. */
export function map(place: usize, length: u32): f64 {
  let words: u32 = 0;
  let wasWord: u32 = 0;
  for (let at: u32 = 0; at < length; at++) {
    const isWord: u32 = load<u8>(place + at) > 32 ? 1 : 0;
    words += isWord & (wasWord ^ 1);
    wasWord = isWord;
  }
  return words as f64;
}

export function combine(a: f64, b: f64): f64 {
  return a + b;
}
