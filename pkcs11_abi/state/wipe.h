/* Memory that held a secret is overwritten before it is given back. */
#ifndef FERROHSM_STATE_WIPE_H
#define FERROHSM_STATE_WIPE_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#include <windows.h>
#endif

/* Overwrite in a way that no compiler removes. */
static inline void ferro_wipe(void *memory, size_t length)
{
    if (memory == NULL || length == 0)
        return;
#if defined(_WIN32)
    SecureZeroMemory(memory, length);
#elif defined(__linux__) || defined(__FreeBSD__) || defined(__OpenBSD__)
    explicit_bzero(memory, length);
#else
    volatile unsigned char *byte = memory;
    while (length--)
        *byte++ = 0;
#endif
}

/* Zeros for what held no secret. For a length that they know, compilers put an instruction in place that takes longer to
 * begin than the library's function takes for all of a call's arguments. */
static inline void ferro_zero(void *memory, size_t length)
{
#if defined(__GNUC__)
    __asm__("" : "+r"(length));
#endif
    memset(memory, 0, length);
}

/* Overwrite what deeper calls left on this thread's stack: ciphers leave blocks of what they deciphered there. */
#if defined(__GNUC__)
__attribute__((noinline, unused))
#endif
static void ferro_wipe_stack(void)
{
    unsigned char room[32768];

    ferro_wipe(room, sizeof room);
}

/* A copy in memory of our own, or NULL when there is none; an empty copy is a valid pointer too. */
static inline unsigned char *ferro_copy(const void *from, size_t length)
{
    unsigned char *copy = malloc(length ? length : 1);

    if (copy != NULL && length != 0)
        memcpy(copy, from, length);
    return copy;
}

static inline void ferro_wipe_free(void *memory, size_t length)
{
    ferro_wipe(memory, length);
    free(memory);
}

#endif
