/* What the CPU functions beside this file share. Each is a module of its own, with its own copy of it. */
#ifndef KERNELS_ROOM_H
#define KERNELS_ROOM_H

#include "packetfs.h"

static inline uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* Room for what a call gives, and for what it works with: the same for all calls of a packet, as long as it suffices. */
static void *room_for(size_t length) {
  static void *room;
  static size_t room_length;
  if (length > room_length) {
    room = packetfs_allocate(length);
    room_length = length;
  }
  if (room == 0) __builtin_trap();
  return room;
}

#endif
