// What a WebAssembly module for PacketFS exports and imports, for AssemblyScript. README.md says what each is.
//
//   asc kernel.ts --outFile kernel.wasm -O3 --runtime stub --use abort=

@external("packetfs", "log")
declare function packetfsLog(text: usize, length: u32): void;

/** One line for the console of the job. */
export function log(line: string): void {
  const bytes = String.UTF8.encode(line);
  packetfsLog(changetype<usize>(bytes), bytes.byteLength);
}

/** Bytes that a function gives: their place in the upper half, their length in the lower one. 0 is nothing. */
export function give(place: usize, length: u32): u64 {
  return ((place as u64) << 32) | (length as u64);
}

/** Where PacketFS puts what it gives. Nothing is freed: when a packet has ended, all of its memory is as it was before. */
export function alloc(length: u32): usize {
  return heap.alloc(length);
}
