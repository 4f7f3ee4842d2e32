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

/*
 * Forget what deeper calls left in the vector registers that they may change: ciphers and memcpy leave blocks of what they
 * worked on. The dynamic linker puts all registers onto the stack when it looks for a function at its first call, which may
 * be long after, in the caller's frame. Nothing where no instruction for it can be written down (MSVC).
 */
#if defined(__GNUC__) && defined(__x86_64__)
#define FERRO_SIXTEEN(one) \
    one(0) one(1) one(2) one(3) one(4) one(5) one(6) one(7) one(8) one(9) one(10) one(11) one(12) one(13) one(14) one(15)
#define FERRO_SIXTEEN_MORE(one) \
    one(16) one(17) one(18) one(19) one(20) one(21) one(22) one(23) one(24) one(25) one(26) one(27) one(28) one(29) one(30) \
        one(31)
#define FERRO_PXOR(n) "pxor %%xmm" #n ", %%xmm" #n "\n\t"
#define FERRO_VPXOR(n) "vpxor %%xmm" #n ", %%xmm" #n ", %%xmm" #n "\n\t" /* the whole of the register */
#define FERRO_VPXORD(n) "vpxord %%xmm" #n ", %%xmm" #n ", %%xmm" #n "\n\t"
#define FERRO_SIXTEEN_CHANGED                                                                                        \
    "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", \
        "xmm13", "xmm14", "xmm15"
#if defined(__AVX512F__)
#define FERRO_MORE_CHANGED                                                                                             \
    "memory", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", \
        "xmm28", "xmm29", "xmm30", "xmm31"
#else
#define FERRO_MORE_CHANGED "memory" /* the compiler uses none of them */
#endif
static inline void ferro_wipe_registers(void)
{
    if (!__builtin_cpu_supports("avx")) {
        __asm__ volatile(FERRO_SIXTEEN(FERRO_PXOR)::: FERRO_SIXTEEN_CHANGED);
        return;
    }
    __asm__ volatile(FERRO_SIXTEEN(FERRO_VPXOR)::: FERRO_SIXTEEN_CHANGED);
    if (__builtin_cpu_supports("avx512vl"))
        __asm__ volatile(FERRO_SIXTEEN_MORE(FERRO_VPXORD)::: FERRO_MORE_CHANGED);
}
#elif defined(__GNUC__) && defined(__aarch64__)
static inline void ferro_wipe_registers(void)
{
    __asm__ volatile("movi v0.2d, #0\n\tmovi v1.2d, #0\n\tmovi v2.2d, #0\n\tmovi v3.2d, #0\n\t"
                     "movi v4.2d, #0\n\tmovi v5.2d, #0\n\tmovi v6.2d, #0\n\tmovi v7.2d, #0\n\t"
                     "movi v16.2d, #0\n\tmovi v17.2d, #0\n\tmovi v18.2d, #0\n\tmovi v19.2d, #0\n\t"
                     "movi v20.2d, #0\n\tmovi v21.2d, #0\n\tmovi v22.2d, #0\n\tmovi v23.2d, #0\n\t"
                     "movi v24.2d, #0\n\tmovi v25.2d, #0\n\tmovi v26.2d, #0\n\tmovi v27.2d, #0\n\t"
                     "movi v28.2d, #0\n\tmovi v29.2d, #0\n\tmovi v30.2d, #0\n\tmovi v31.2d, #0" ::
                         : "memory", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17", "v18", "v19", "v20",
                           "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");
}
#else
static inline void ferro_wipe_registers(void)
{
}
#endif

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
