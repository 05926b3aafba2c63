/*
 * What a WebAssembly module for PacketFS exports and imports, for C and C++. README.md says what each is.
 *
 *   clang --target=wasm32 -O3 -msimd128 -nostdlib -ffreestanding -Wl,--no-entry -o kernel.wasm kernel.c
 */
#ifndef PACKETFS_H
#define PACKETFS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In front of a function that PacketFS calls by this name. */
#define PACKETFS_EXPORT(name) __attribute__((export_name(#name)))

/* Bytes that a function gives: their place in the upper half, their length in the lower one. 0 is nothing. */
typedef uint64_t packetfs_bytes;

static inline packetfs_bytes packetfs_give(const void *place, size_t length) {
  return (uint64_t)(uintptr_t)place << 32 | (uint32_t)length;
}

/* One line for the console of the job, as UTF-8. */
__attribute__((import_module("packetfs"), import_name("log"))) void packetfs_log(const char *text, size_t length);

/*
 * Memory behind everything that the linker has laid out, at multiples of 16; 0 where there is no more. Nothing is freed: when
 * a packet has ended, all of its memory is as it was before.
 */
extern unsigned char __heap_base;
static inline void *packetfs_allocate(size_t length) {
  static uintptr_t next = 0;
  const uintptr_t page = 65536;
  uintptr_t place = ((next == 0 ? (uintptr_t)&__heap_base : next) + 15) & ~(uintptr_t)15;
  uintptr_t end = place + length;
  uintptr_t have = __builtin_wasm_memory_size(0) * page;
  if (end < place) return 0;
  if (end > have && __builtin_wasm_memory_grow(0, (end - have + page - 1) / page) == (size_t)-1) return 0;
  next = end;
  return (void *)place;
}

/* Once in a module: where PacketFS puts what it gives to the module's functions. */
#define PACKETFS_ALLOC \
  PACKETFS_EXPORT(alloc) void *alloc(size_t length) { return packetfs_allocate(length); }

#ifdef __cplusplus
}
#endif
#endif
