/*
 * The arena: memory for everything that libcrypto and the kernels keep.
 *
 * Pages are locked when the limit allows, left out of core dumps, fenced with guard pages, and every
 * block is wiped in full when it is freed. Each thread keeps a bounded number of free blocks for itself
 * and gives them back when it ends. There are two zones:
 *
 *   ferro_alloc         for libcrypto and for contexts. A child of fork() has a copy of it, because
 *                       libcrypto's own static state points into it and could not be made anew;
 *                       keys in it are wiped by `ferro_objects_fork_child`.
 *   ferro_secret_alloc  for plain bytes (buffers, random kept ahead). A child finds zeros there.
 */
#ifndef FERRO_KERNELS_ARENA_H
#define FERRO_KERNELS_ARENA_H 1

#include <stddef.h>
#include <stdint.h>

typedef struct ferro_arena_status {
    size_t mapped;  /* bytes made usable so far */
    size_t locked;  /* of these, bytes the system agreed to lock */
    size_t in_use;  /* bytes in blocks of the secret zone and in blocks with a mapping of their own */
} ferro_arena_status;

/* Make the arena; 0, or -1 without memory. Harmless when called again. */
int ferro_arena_start(void);

/* Zeroed memory, aligned to 16 bytes, or NULL. */
void *ferro_alloc(size_t size);
void *ferro_secret_alloc(size_t size);
void *ferro_realloc(void *block, size_t size);
/* Wipe and give back a block of either zone. */
void ferro_free(void *block);

/* Overwrite with zeros in a way that the compiler keeps. */
void ferro_wipe(void *data, size_t size);

void ferro_arena_read_status(ferro_arena_status *status);

/* From now on, memory that the system does not agree to lock is not given out at all. */
void ferro_arena_require_lock(int required);

/* Held around fork() so that the child finds the lists whole. */
void ferro_arena_lock(void);
void ferro_arena_unlock(void);
/* In the child of a fork: page locks are not inherited, ask for them again. */
void ferro_arena_fork_child(void);

#endif
